"""Rows of JSONL, JSON and parquet files, read strictly."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ares.data.checks import kind
from ares.storage.files import read_json
from ares.storage.tables import read_table
from ares.types import AresError


def rows_of(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of a file with their numbers, counted from 1: lines of JSONL, rows of parquet, entries of a JSON list.

    A line that is no JSON value is a `Torn`.
    """
    if path.suffix == ".parquet":
        yield from enumerate(read_table(path), start=1)
        return
    if path.suffix == ".json":
        found = read_json(path)
        if not isinstance(found, list):
            raise AresError(f"{path} holds {kind(found)}; it must be a list of rows.")
        yield from enumerate(found, start=1)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _parsed(line)


class Torn(str):
    """Why a line is not a row."""


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_number)
    except UnicodeDecodeError:
        return Torn("it is not UTF-8; save the file as UTF-8.")
    except json.JSONDecodeError as error:
        return Torn(f"it is not valid JSON ({error.msg}); write one object per line.")
    except (ValueError, RecursionError) as error:
        return Torn(f"it cannot be read ({str(error).split(';')[0]}); write one object per line.")


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"field {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return dict(pairs)


def present(row: Any) -> Any:
    """A row without the fields that are null, or NaN as pandas writes it: a parquet file has every column in every row."""
    if not isinstance(row, dict):
        return row
    return {
        name: value
        for name, value in row.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }
