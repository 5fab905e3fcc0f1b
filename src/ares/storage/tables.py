"""The tables that steps exchange. The columns of a table are the fields of its carrier in `ares.types`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ares.storage.files import atomic_path, read_jsonl, write_jsonl
from ares.types import Correction, Feedback, Prediction, Rationale, Rollout, Span, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

Row = TypeVar("Row")
# Those of rollouts differ from the fields: spans are two columns, and token_ends is token_end.
_ROLLOUT_COLUMNS = {
    "row_id": str,
    "pid": str,
    "sample": int,
    "text": str,
    "token_ids": tuple[int, ...],
    "truncated": bool,
    "span_start": tuple[int, ...],
    "span_end": tuple[int, ...],
    "token_end": tuple[int, ...],
    "logprobs": tuple[float, ...],
    "ref_logprobs": tuple[float, ...],
    "sampler_logprobs": tuple[float, ...] | None,
    "repetition": float,
}


def _table(
    rows: Iterable[Mapping[str, Any]], columns: Mapping[str, Any], metadata: Mapping[str, str] | None
) -> "pa.Table":
    import pyarrow as pa

    types = {
        str: pa.string(),
        str | None: pa.string(),
        bool: pa.bool_(),
        int: pa.int16(),
        float: pa.float64(),
        tuple[int, ...]: pa.list_(pa.int32()),
        tuple[float, ...]: pa.list_(pa.float32()),
        tuple[float, ...] | None: pa.list_(pa.float32()),
        tuple[str, ...]: pa.list_(pa.string()),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()], metadata=metadata)
    return pa.Table.from_pylist(list(rows), schema=schema)


def _write(path: Path | str, table: "pa.Table") -> None:
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path | str) -> list[dict[str, Any]]:
    """Reads a parquet file as a list of rows."""
    import pyarrow.parquet as pq

    # ParquetFile, not read_table, which takes a folder name such as round=1 for a partition.
    return pq.ParquetFile(path).read().to_pylist()


def _writer(carrier: type[Row]) -> Callable[..., None]:
    columns = {item.name: item.type for item in fields(carrier)}  # type: ignore[arg-type]

    def write(path: Path | str, rows: Iterable[Row], metadata: Mapping[str, str] | None = None) -> None:
        """Writes the rows as parquet, atomically; `metadata` is stored in the file."""
        _write(path, _table(map(vars, rows), columns, metadata))

    return write


def _reader(carrier: type[Row]) -> Callable[[Path | str], list[Row]]:
    def read(path: Path | str) -> list[Row]:
        """Reads all rows of a parquet file."""
        return [carrier(**_with_tuples(row)) for row in read_table(path)]

    return read


def _with_tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


write_feedback, read_feedback = _writer(Feedback), _reader(Feedback)
write_rationales, read_rationales = _writer(Rationale), _reader(Rationale)
write_corrections, read_corrections = _writer(Correction), _reader(Correction)
write_verdicts, read_verdicts = _writer(Verdict), _reader(Verdict)


def write_rollouts(
    path: Path | str, rollouts: Iterable[Rollout], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes `rollouts/part-<n>.parquet`."""
    _write(path, rollout_table(rollouts, metadata))


def rollout_table(rollouts: Iterable[Rollout], metadata: Mapping[str, str] | None = None) -> "pa.Table":
    """The table of rollouts as it is written."""
    rows = (
        {
            **vars(r),
            "span_start": [span.start for span in r.spans],
            "span_end": [span.end for span in r.spans],
            "token_end": r.token_ends,
        }
        for r in rollouts
    )
    return _table(rows, _ROLLOUT_COLUMNS, metadata)


def rollout_parts(folder: Path | str) -> list[Path]:
    """The parts of a rollouts folder, in order."""
    return sorted(Path(folder).glob("part-*.parquet"), key=lambda path: int(path.stem.split("-")[1]))


def read_rollouts(folder: Path | str) -> list[Rollout]:
    """Reads all parts of a rollouts folder, in order."""
    return [_rollout(row) for part in rollout_parts(folder) for row in read_table(part)]


def _rollout(row: dict[str, Any]) -> Rollout:
    starts, ends, token_ends = (row.pop(name) for name in ("span_start", "span_end", "token_end"))
    spans = tuple(Span(start, end) for start, end in zip(starts, ends, strict=True))
    return Rollout(**_with_tuples(row), spans=spans, token_ends=tuple(token_ends))


def write_predictions(path: Path | str, predictions: Iterable[Prediction]) -> None:
    """Writes predictions.jsonl."""
    write_jsonl(path, map(vars, predictions))


def read_predictions(path: Path | str) -> list[Prediction]:
    """Reads predictions.jsonl."""
    return [Prediction(**row) for row in read_jsonl(path)]
