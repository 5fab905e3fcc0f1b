"""The tables that steps exchange. The columns of a table are the fields of its carrier in `ares.types`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ares.storage.failures import disk_errors
from ares.storage.files import atomic_path, read_jsonl, write_jsonl
from ares.types import AresError, Correction, Feedback, Prediction, Rationale, Rollout, Span, Verdict

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
}


def _schema(columns: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> "pa.Schema":
    import pyarrow as pa

    types = {
        str: pa.string(),
        str | None: pa.string(),
        bool: pa.bool_(),
        int: pa.int16(),
        tuple[int, ...]: pa.list_(pa.int32()),
        tuple[float, ...]: pa.list_(pa.float32()),
        tuple[float, ...] | None: pa.list_(pa.float32()),
        tuple[str, ...]: pa.list_(pa.string()),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()], metadata=metadata)


def _write(
    path: Path | str,
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, Any],
    metadata: Mapping[str, str] | None,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(list(rows), schema=_schema(columns, metadata))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_table(path: Path | str, columns: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Reads a parquet file as a list of rows; with `columns` (name to type) it has no others.

    Raises AresError where the file is damaged, a column is there twice, or holds something else.
    """
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
        return table.to_pylist()


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


def _writer(carrier: type[Row]) -> Callable[..., None]:
    columns = {item.name: item.type for item in fields(carrier)}  # type: ignore[arg-type]

    def write(path: Path | str, rows: Iterable[Row], metadata: Mapping[str, str] | None = None) -> None:
        """Writes the rows as parquet, atomically; `metadata` is stored in the file."""
        _write(path, map(vars, rows), columns, metadata)

    return write


def _reader(carrier: type[Row]) -> Callable[[Path | str], list[Row]]:
    columns = {item.name: item.type for item in fields(carrier)}  # type: ignore[arg-type]

    def read(path: Path | str) -> list[Row]:
        """Reads all rows of a parquet file. Raises AresError where it is damaged or another table."""
        return _rows(path, lambda row: carrier(**_with_tuples(row)), read_table(path, columns))

    return read


def _rows(path: Path | str, build: Callable[[Any], Row], rows: Iterable[Any]) -> list[Row]:
    try:
        return [build(row) for row in rows]
    except (TypeError, KeyError, ValueError, AttributeError):
        raise AresError(
            f"{path} does not have the columns that ares writes; run the step that wrote it again."
        ) from None


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
    rows = (
        {
            **vars(r),
            "span_start": [span.start for span in r.spans],
            "span_end": [span.end for span in r.spans],
            "token_end": r.token_ends,
        }
        for r in rollouts
    )
    _write(path, rows, _ROLLOUT_COLUMNS, metadata)


def read_rollouts(folder: Path | str) -> list[Rollout]:
    """Reads all parts of a rollouts folder, in order."""
    parts = sorted(Path(folder).glob("part-*.parquet"), key=lambda path: int(path.stem.split("-")[1]))
    return [row for part in parts for row in _rows(part, _rollout, read_table(part, _ROLLOUT_COLUMNS))]


def _rollout(row: dict[str, Any]) -> Rollout:
    starts, ends, token_ends = (row.pop(name) for name in ("span_start", "span_end", "token_end"))
    spans = tuple(Span(start, end) for start, end in zip(starts, ends, strict=True))
    return Rollout(**_with_tuples(row), spans=spans, token_ends=tuple(token_ends))


def write_predictions(path: Path | str, predictions: Iterable[Prediction]) -> None:
    """Writes predictions.jsonl."""
    write_jsonl(path, map(vars, predictions))


def read_predictions(path: Path | str) -> list[Prediction]:
    """Reads predictions.jsonl."""
    return _rows(path, lambda row: Prediction(**row), read_jsonl(path))
