"""Reads a custom data set: a JSONL or parquet file with one problem per row, the fields those of `Problem`."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from ares.data.captions import captions_of
from ares.data.rows import Id, Row, Text, parse_row
from ares.storage.tables import read_table
from ares.types import SPLITS, AresError, Problem

FILES = ("problems.jsonl", "problems.parquet")
_SHOWN = 10  # mistakes reported at once


class CustomRow(Row):
    """A row; there are no other fields."""

    model_config = ConfigDict(extra="forbid")

    pid: Id
    split: Literal["train", "val", "test"]
    caption: Text = ""
    images: list[Text] | None = None


def read_custom(
    root: Path | str | None, captions: Path | str | None = None
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of train, val and test, in the order of the rows.

    `root` is a `.jsonl` or `.parquet` file, or a folder with `problems.jsonl` or `problems.parquet`. A row has
    `pid`, `question`, `choices` and `split` (train, val or test); every other field of `Problem` is optional:
    an `answer` that is missing or null is withheld, texts are empty, `image` (one) or `images` (several) are paths
    relative to the file's folder. `captions` as in `read_scienceqa`; a row's own caption has precedence.

    Raises AresError that lists the first mistakes with their row numbers, counted from 1.
    """
    path = _file(root)
    rows, mistakes = _checked(path)
    if mistakes:
        more = [f"{path}: {len(mistakes) - _SHOWN} more mistakes."] if len(mistakes) > _SHOWN else []
        raise AresError("\n".join(mistakes[:_SHOWN] + more))
    if not rows:
        raise AresError(
            f"{path} holds no problems; write one object per line, or set data.root=<another file>."
        )
    texts = captions_of(rows, path.parent, captions)
    problems = {}
    for pid, row in rows.items():
        image = path.parent / row.image if row.image else None
        images = [path.parent / name for name in row.images or ()]
        problems[pid] = row.problem(pid, row.split, image, row.caption or texts.get(pid, ""), images)
    return problems, {split: [pid for pid, row in rows.items() if row.split == split] for split in SPLITS}


def _checked(path: Path) -> tuple[dict[str, CustomRow], list[str]]:
    """The rows by pid, and a sentence for each mistake."""
    rows: dict[str, CustomRow] = {}
    mistakes: list[str] = []
    first: dict[Any, int] = {}
    for number, value in _rows(path):
        row, clauses = (
            (None, [str(value)]) if isinstance(value, _Torn) else parse_row(CustomRow, _present(value))
        )
        pid = value.get("pid") if isinstance(value, dict) else None
        if isinstance(pid, str) and first.setdefault(pid, number) != number:
            clauses.append(f"pid {pid} is that of row {first[pid]}; give it its own.")
        mistakes += [f"{path}: row {number}, {clause}" for clause in clauses]
        if row:
            rows[row.pid] = row
    return rows, mistakes


def _file(root: Path | str | None) -> Path:
    path = Path(root) if root else None
    for candidate in [path, *(path / name for name in FILES)] if path else []:
        if candidate and candidate.is_file() and candidate.suffix in (".jsonl", ".parquet"):
            return candidate
    raise AresError(
        f"data.root={root} is neither a .jsonl or .parquet file nor a folder with {' or '.join(FILES)}; "
        "docs/data.md shows what a row looks like."
    )


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows with their numbers: lines of JSONL, rows of parquet."""
    if path.suffix == ".parquet":
        yield from enumerate(read_table(path), start=1)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _parsed(line)


class _Torn(str):
    """Why a line is not a row."""


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError:
        return _Torn("it is not UTF-8; save the file as UTF-8.")
    except json.JSONDecodeError as error:
        return _Torn(f"it is not valid JSON ({error.msg}); write one object per line.")
    except (ValueError, RecursionError) as error:
        return _Torn(f"it cannot be read ({str(error).split(';')[0]}); write one object per line.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"field {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return dict(pairs)


def _present(row: Any) -> Any:
    """A row without the fields that are null, or NaN as pandas writes it: a parquet file has every column in every row."""
    if not isinstance(row, dict):
        return row
    return {
        name: value
        for name, value in row.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }
