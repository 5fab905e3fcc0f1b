"""Rows of published files as problems: strict fields, distinct ids, questions with and without choices."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import field_validator

from ares.data.captions import captions_of
from ares.data.checks import kind
from ares.data.rows import MAX_CHOICES, Row, Text, fail, parse_row
from ares.storage.files import read_json, read_jsonl
from ares.types import SPLITS, AresError, Problem

T = TypeVar("T")
_NAMES = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


class FreeRow(Row):
    """A row that may be without choices; its right answers are then its `direct_answers`."""

    choices: list[Text] = []  # noqa: RUF012 (pydantic copies it)

    @field_validator("choices")
    @classmethod
    def _check_choices(cls, choices: list[str]) -> list[str]:
        if len(choices) > MAX_CHOICES:
            raise fail(f"has {len(choices)} choices; at most {MAX_CHOICES} (A to Z) can be answered")
        return choices


@dataclass(frozen=True)
class Entry:
    """A row of a published file: its split, its id, its place ("<file>: row 3") and the fields of `FreeRow`."""

    split: str
    pid: str
    place: str
    fields: Mapping[str, Any]
    image: Path | None


def collect(
    entries: Iterable[Entry], root: Path, captions: Path | str | None
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of train, val and test, in the order of the entries.

    `captions` as in `read_scienceqa`. Raises AresError for a wrong field, for an id that occurs twice, and without rows.
    """
    rows = {}
    for entry in entries:
        row, clauses = parse_row(FreeRow, dict(entry.fields))
        if row is None:
            raise AresError(f"{entry.place}, {clauses[0]}")
        if entry.pid in rows:
            raise AresError(f"{entry.place}, id {entry.pid} is that of another row; keep one.")
        rows[entry.pid] = entry, row
    if not rows:
        raise AresError(f"{root} holds no questions; put the data set's own files there.")
    texts = captions_of(rows, root, captions)
    problems = {
        pid: row.problem(pid, entry.split, entry.image, texts.get(pid, ""))
        for pid, (entry, row) in rows.items()
    }
    return problems, {split: [p.pid for p in problems.values() if p.split == split] for split in SPLITS}


def field_of(place: str, row: Any, name: str, wanted: type[T]) -> T:
    """A field of a row, of the wanted type. Raises AresError where it is missing or something else."""
    if not isinstance(row, dict):
        raise AresError(f"{place} is {kind(row)}; it must be an object.")
    if name not in row:
        raise AresError(f'{place}, field "{name}" is missing; add it.')
    value = row[name]
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise AresError(f'{place}, field "{name}" is {kind(value)}; make it {_NAMES[wanted]}.')
    return value


def rows_of(path: Path) -> list[tuple[str, Any]]:
    """The rows of a JSON list or of JSONL, each with its place, counted from 1. Raises AresError for another file."""
    content = read_jsonl(path) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(content, list):
        raise AresError(f"{path} holds {kind(content)}; it must be a list of rows.")
    return [(f"{path}: row {number}", row) for number, row in enumerate(content, start=1)]
