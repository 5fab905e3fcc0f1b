"""Reads a data set of one's own: a JSONL or parquet file with one problem a row, the fields those of `Problem`."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ares.data.captions import captions_of
from ares.data.checks import TEXT_FIELDS, halves, is_id, problems_with, wrong_texts
from ares.storage.tables import read_table
from ares.types import SPLITS, AresError, Problem

FILES = ("problems.jsonl", "problems.parquet")
FIELDS = (*Problem.__dataclass_fields__,)
_REQUIRED = ("pid", "question", "choices", "split")
_SHOWN = 10  # mistakes told at once


def read_custom(
    root: Path | str | None, captions: Path | str | None = None
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of train, val and test, in the order of the rows.

    `root` is a `.jsonl` or `.parquet` file, or a folder with `problems.jsonl` or `problems.parquet`. A row has
    `pid`, `question`, `choices` and `split` (train, val or test); every other field of `Problem` may be left
    out: an `answer` that is missing or null is withheld, texts are empty, `image` is a path relative to the
    file's folder. `captions` as in `read_scienceqa`; a caption of its own goes first.

    Raises AresError that lists the first mistakes, of whatever kind, with their row numbers, counted from 1.
    """
    path = _file(root)
    rows = [(number, _without_nan(row)) for number, row in _rows(path)]
    if not rows:
        raise AresError(
            f"{path} holds no problems; write one object a line, or name another file: data.root=<file>."
        )
    found = [f"{path}: row {number}, {clause}" for number, clause in _mistakes(rows)]
    if found:
        more = [f"{path}: {len(found) - _SHOWN} more mistakes."] if len(found) > _SHOWN else []
        raise AresError("\n".join(found[:_SHOWN] + more))
    texts = captions_of({row["pid"] for _, row in rows}, path.parent, captions)
    problems = {row["pid"]: _problem(row, path.parent, texts) for _, row in rows}
    splits = {split: [p.pid for p in problems.values() if p.split == split] for split in SPLITS}
    return problems, splits


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
        yield from enumerate(_table(path), start=1)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _parsed(line)


class _Torn(str):
    """Stands for a line that is no row, and says why."""


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return _Torn("it is not UTF-8; save the file as UTF-8.")
    except json.JSONDecodeError as error:
        return _Torn(f"it is not valid JSON ({error.msg}); write one object a line.")


def _table(path: Path) -> list[dict[str, Any]]:
    from pyarrow import ArrowException

    try:
        return read_table(path)
    except (ArrowException, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise AresError(f"{path} is no readable parquet file ({reason}); write it again.") from None


def _without_nan(row: Any) -> Any:
    """A row as JSON would have it: pandas writes NaN where nothing is."""
    if not isinstance(row, dict):
        return row
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in row.items()}


def _mistakes(rows: list[tuple[int, Any]]) -> Iterator[tuple[int, str]]:
    first: dict[str, int] = {}
    for number, row in rows:
        yield from ((number, clause) for clause in _wrong(row))
        pid = row.get("pid") if isinstance(row, dict) else None
        if isinstance(pid, str) and first.setdefault(pid, number) != number:
            yield number, f"pid {pid} is that of row {first[pid]}; give it its own."


def _wrong(row: Any) -> Iterator[str]:
    if isinstance(row, _Torn):
        yield row
        return
    if isinstance(row, dict):
        # A parquet file has every column in every row: null is as good as absent.
        row = {name: value for name, value in row.items() if value is not None}
        unknown = sorted(row.keys() - set(FIELDS))
        yield from (f'field "{name}" is unknown; the fields are {", ".join(FIELDS)}.' for name in unknown)
    yield from problems_with(row, _REQUIRED)
    if not isinstance(row, dict):
        return
    for name in ("rationales", "direct_answers"):
        yield from wrong_texts(row, name)
    if "pid" in row and not is_id(row["pid"]):
        yield 'field "pid" must be a non-empty text without a slash.'
    if "split" in row and row["split"] not in SPLITS:
        yield f'field "split" is {row["split"]!r}; make it train, val or test.'
    if not isinstance(row.get("difficult", False), bool):
        yield 'field "difficult" must be true or false.'
    if not isinstance(row.get("caption", ""), str):
        yield 'field "caption" must be text.'
    yield from halves(row, ("pid", "caption"))


def _problem(row: dict[str, Any], folder: Path, captions: dict[str, str]) -> Problem:
    return Problem(
        pid=row["pid"],
        choices=tuple(row["choices"]),
        answer=None if row.get("answer") is None else int(row["answer"]),
        caption=row.get("caption") or captions.get(row["pid"], ""),
        image=folder / row["image"] if row.get("image") else None,
        split=row["split"],
        rationales=tuple(row.get("rationales") or ()),
        direct_answers=tuple(row.get("direct_answers") or ()),
        difficult=bool(row.get("difficult")),
        **{name: row.get(name) or "" for name in TEXT_FIELDS},
    )
