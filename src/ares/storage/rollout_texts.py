"""Parts of tables for the report: the sentences of some rollouts, and the questions of a table, without the rest."""

from collections.abc import Collection, Iterator
from pathlib import Path

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
                spans = zip(row["span_start"], row["span_end"], strict=True)
                yield row["row_id"], row["pid"], [row["text"][start:end] for start, end in spans]
