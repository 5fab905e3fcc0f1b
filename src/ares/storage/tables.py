"""The tables that steps exchange. The columns of a table are the fields of its carrier in `ares.types`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ares.storage.failures import disk_errors
from ares.storage.files import atomic_path, read_jsonl, write_jsonl
from ares.types import (
    Advantages,
    AresError,
    Correction,
    Feedback,
    Prediction,
    Rationale,
    Rollout,
    Span,
    Verdict,
)

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


def _schema(columns: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> "pa.Schema":
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
    return pa.schema([(name, types[kind]) for name, kind in columns.items()], metadata=metadata)


def _table(
    rows: Iterable[Mapping[str, Any]], columns: Mapping[str, Any], metadata: Mapping[str, str] | None
) -> "pa.Table":
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=_schema(columns, metadata))


def _write(path: Path | str, table: "pa.Table") -> None:
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def write_table(
    path: Path | str,
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes rows with these columns (name to type) as parquet, atomically; `metadata` is stored in the file."""
    _write(path, _table(rows, columns, metadata))


def read_table(path: Path | str, columns: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Reads a parquet file as a list of rows; with `columns` (name to type) it has no others.

    Raises AresError where the file is damaged, a column is there twice, or holds something else.
    """
    with readable(path):
        return _read(path, columns).to_pylist()


def _read(path: Path | str, columns: Mapping[str, Any] | None) -> "pa.Table":
    import pyarrow.parquet as pq

    with readable(path):
        # ParquetFile, not read_table, which takes a folder name such as round=1 for a partition.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        if len(set(table.column_names)) < table.num_columns:
            raise AresError(f"{path} has a column twice ({', '.join(table.column_names)}); keep one.")
        if columns is not None:
            _check_columns(path, table, columns)
            table = table.cast(_schema({name: columns[name] for name in table.column_names}))
        return table


def _check_columns(path: Path | str, table: "pa.Table", columns: Mapping[str, Any]) -> None:
    unknown = [name for name in table.column_names if name not in columns]
    optional = (str | None, tuple[float, ...] | None)
    blank = [
        n for n in columns if n in table.column_names and columns[n] not in optional and table[n].null_count
    ]
    if unknown or blank:
        raise AresError(
            f"{path} is not the table that belongs there: its column {[*unknown, *blank][0]} is "
            f"{'unknown' if unknown else 'partly blank'}; run the step that wrote it again, or give another file."
        )


@contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """Turns what reading a damaged parquet file raises into an AresError."""
    from pyarrow import ArrowException

    try:
        with disk_errors():
            yield
    except (
        ArrowException,
        OSError,
        ValueError,
        OverflowError,
    ) as error:  # a text that is not UTF-8 is a ValueError
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise AresError(
            f"{path} is not a readable parquet file ({reason}); it is damaged: write it again."
        ) from None


def table_writer(carrier: type[Row]) -> Callable[..., None]:
    """The function that writes a table whose columns are the fields of a carrier."""
    columns = {item.name: item.type for item in fields(carrier)}  # type: ignore[arg-type]

    def write(path: Path | str, rows: Iterable[Row], metadata: Mapping[str, str] | None = None) -> None:
        """Writes the rows as parquet, atomically; `metadata` is stored in the file."""
        write_table(path, map(vars, rows), columns, metadata)

    return write


def table_reader(carrier: type[Row]) -> Callable[[Path | str], list[Row]]:
    """The function that reads it."""
    columns = {item.name: item.type for item in fields(carrier)}  # type: ignore[arg-type]

    def read(path: Path | str) -> list[Row]:
        """Reads all rows of a parquet file. Raises AresError where it is damaged or another table."""
        return build_rows(path, lambda row: carrier(**_with_tuples(row)), read_table(path, columns))

    return read


def build_rows(path: Path | str, build: Callable[[Any], Row], rows: Iterable[Any]) -> list[Row]:
    """The carriers that `build` makes of a file's rows. Raises AresError where it cannot."""
    try:
        return [build(row) for row in rows]
    except (TypeError, KeyError, ValueError, AttributeError):
        raise AresError(
            f"{path} does not have the columns that ares writes; run the step that wrote it again."
        ) from None


def _with_tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


write_feedback, read_feedback = table_writer(Feedback), table_reader(Feedback)
write_rationales, read_rationales = table_writer(Rationale), table_reader(Rationale)
write_corrections, read_corrections = table_writer(Correction), table_reader(Correction)
write_verdicts, read_verdicts = table_writer(Verdict), table_reader(Verdict)
write_advantages, read_advantages = table_writer(Advantages), table_reader(Advantages)


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


def read_rollout_table(path: Path | str) -> "pa.Table":
    """One part as it was written. Raises AresError where it is damaged, another table, or of another version."""
    table = _read(path, _ROLLOUT_COLUMNS)
    if missing := set(_ROLLOUT_COLUMNS) - set(table.column_names):
        raise AresError(f"{path} has no column {min(missing)}: another version wrote it; roll out afresh.")
    return table


def read_rollouts(folder: Path | str) -> list[Rollout]:
    """Reads all parts of a rollouts folder, in order."""
    return [
        row
        for part in rollout_parts(folder)
        for row in build_rows(part, _rollout, read_table(part, _ROLLOUT_COLUMNS))
    ]


def _rollout(row: dict[str, Any]) -> Rollout:
    starts, ends, token_ends = (row.pop(name) for name in ("span_start", "span_end", "token_end"))
    spans = tuple(Span(start, end) for start, end in zip(starts, ends, strict=True))
    return Rollout(**_with_tuples(row), spans=spans, token_ends=tuple(token_ends))


def write_predictions(path: Path | str, predictions: Iterable[Prediction]) -> None:
    """Writes predictions.jsonl."""
    write_jsonl(path, map(vars, predictions))


def read_predictions(path: Path | str) -> list[Prediction]:
    """Reads predictions.jsonl."""
    return build_rows(path, lambda row: Prediction(**row), read_jsonl(path))
