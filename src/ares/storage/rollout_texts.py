"""Parts of tables for the report: the sentences of some rollouts, and the questions of a table, without the rest."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ares.storage.tables import readable, rollout_parts


def read_pids(path: Path) -> set[str]:
    """The pids in a parquet file, or in the parts of a rollouts folder. Raises AresError where one is damaged."""
    import pyarrow.parquet as pq

    found: set[str] = set()
    for file in rollout_parts(path) if path.is_dir() else [path]:
        with readable(file):
            found |= {*pq.ParquetFile(file).read(["pid"])["pid"].to_pylist()}
    return found


def read_sentences(folder: Path, pids: Collection[str]) -> Iterator[tuple[str, str, list[str]]]:
    """The sentences of some questions' rollouts as (row_id, pid, sentences), in order; nothing else is read.

    Raises AresError where a part is damaged.
    """
    import pyarrow.parquet as pq

    columns = ["row_id", "pid", "text", "span_start", "span_end"]
    for part in rollout_parts(folder):
        with readable(part):
            rows = pq.ParquetFile(part).read(columns).to_pylist()
        for row in rows:
            if row["pid"] in pids:
                yield row["row_id"], row["pid"], _sentences(row)


def read_pair_sentences(
    path: Path, pids: Collection[str]
) -> Iterator[tuple[str, str, list[tuple[list[str], list[float] | None]]]]:
    """Some questions' pairs as (pid, origin, sides), in order; nothing else is read.

    The sides are the chosen and the rejected one: sentences and their scores, None where these are unknown. Raises
    AresError where the file is damaged.
    """
    import pyarrow.parquet as pq

    sides = ("chosen_", "rejected_")
    columns = [f"{side}{name}" for side in sides for name in ("text", "span_start", "span_end", "scores")]
    with readable(path):
        rows = pq.ParquetFile(path).read(["pid", "origin", *columns]).to_pylist()
    for row in rows:
        if row["pid"] in pids:
            both = [(_sentences(row, side), row[f"{side}scores"]) for side in sides]
            yield row["pid"], row["origin"], both


def _sentences(row: Mapping[str, Any], prefix: str = "") -> list[str]:
    text, starts, ends = (row[f"{prefix}{name}"] for name in ("text", "span_start", "span_end"))
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]
