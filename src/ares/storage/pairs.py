"""pairs.parquet: each side of a pair as columns of its own."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ares.storage.tables import build_rows, read_table, write_table
from ares.types import Pair, Side, Span

_SIDES = ("chosen", "rejected")
_SIDE_COLUMNS = {
    "text": str,
    "token_ids": tuple[int, ...],
    "span_start": tuple[int, ...],
    "span_end": tuple[int, ...],
    "token_ends": tuple[int, ...],
    "scores": tuple[float, ...] | None,
    "ref_logprobs": tuple[float, ...] | None,
}
_COLUMNS = {
    **dict.fromkeys(("row_id", "pid", "origin"), str),
    **{f"{side}_{name}": kind for side in _SIDES for name, kind in _SIDE_COLUMNS.items()},
}


def write_pairs(path: Path | str, pairs: Iterable[Pair], metadata: Mapping[str, str] | None = None) -> None:
    """Writes pairs.parquet, atomically; `metadata` is stored in the file."""
    write_table(path, map(_row, pairs), _COLUMNS, metadata)


def read_pairs(path: Path | str) -> list[Pair]:
    """Reads pairs.parquet, in order. Raises AresError where it is damaged or another table."""
    return build_rows(path, _pair, read_table(path, _COLUMNS))


def _row(pair: Pair) -> dict[str, Any]:
    row: dict[str, Any] = {"row_id": pair.row_id, "pid": pair.pid, "origin": pair.origin}
    for name in _SIDES:
        side: Side = getattr(pair, name)
        columns = {
            **vars(side),
            "span_start": [span.start for span in side.spans],
            "span_end": [span.end for span in side.spans],
        }
        row |= {f"{name}_{column}": columns[column] for column in _SIDE_COLUMNS}
    return row


def _pair(row: Mapping[str, Any]) -> Pair:
    chosen, rejected = (_side({name: row[f"{side}_{name}"] for name in _SIDE_COLUMNS}) for side in _SIDES)
    return Pair(row["row_id"], row["pid"], row["origin"], chosen, rejected)


def _side(row: dict[str, Any]) -> Side:
    starts, ends = row.pop("span_start"), row.pop("span_end")
    spans = tuple(Span(start, end) for start, end in zip(starts, ends, strict=True))
    lists: dict[str, Any] = {
        name: value if value is None or name == "text" else tuple(value) for name, value in row.items()
    }
    return Side(spans=spans, **lists)
