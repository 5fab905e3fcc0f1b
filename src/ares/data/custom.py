"""Reads a custom data set: a JSONL or parquet file with one problem per row, the fields those of `Problem`."""

from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from ares.data.captions import captions_of
from ares.data.row_files import Torn, present, rows_of
from ares.data.rows import FileName, Id, Row, Text, parse_row
from ares.types import SPLITS, AresError, Problem

FILES = ("problems.jsonl", "problems.parquet")
_SHOWN = 10  # mistakes reported at once


class CustomRow(Row):
    """A row; there are no other fields."""

    model_config = ConfigDict(extra="forbid")

    pid: Id
    split: Literal["train", "val", "test"]
    caption: Text = ""
    images: list[FileName] | None = None


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
    for number, value in rows_of(path):
        row, clauses = (
            (None, [str(value)]) if isinstance(value, Torn) else parse_row(CustomRow, present(value))
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
