"""The tables that steps hand on: which columns each has, and its rows as the carriers they hold."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ares.storage.files import atomic_path, read_jsonl, write_jsonl
from ares.types import Correction, Feedback, Prediction, Rationale, Rollout, Span, Verdict


def write_table(
    path: Path | str,
    rows: Sequence[Mapping[str, Any]],
    schema: Any,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes rows as parquet with the given pyarrow schema, atomically; `metadata` travels in the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(
        [dict(row) for row in rows], schema=schema.with_metadata(dict(metadata or {}))
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path | str) -> list[dict[str, Any]]:
    """Reads a parquet file as a list of rows."""
    import pyarrow.parquet as pq

    # ParquetFile, not read_table: a folder name such as round=1 is no partition of ours.
    return pq.ParquetFile(path).read().to_pylist()


def _schema(columns: Mapping[str, str]) -> Any:
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "bool": pa.bool_(),
        "int16": pa.int16(),
        "ints": pa.list_(pa.int32()),
        "floats": pa.list_(pa.float32()),
        "strings": pa.list_(pa.string()),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


ROLLOUT_COLUMNS = {
    "row_id": "string",
    "pid": "string",
    "sample": "int16",
    "text": "string",
    "token_ids": "ints",
    "truncated": "bool",
    "span_start": "ints",
    "span_end": "ints",
    "token_end": "ints",
    "logprobs": "floats",
    "ref_logprobs": "floats",
}
FEEDBACK_COLUMNS = {
    "row_id": "string",
    "scores": "floats",
    "status": "string",
    "reason": "string",
    "request_hash": "string",
}
RATIONALE_COLUMNS = {"pid": "string", "text": "string", "token_ids": "ints", "truncated": "bool"}
VERDICT_COLUMNS = {
    "pid": "string",
    "winner": "string",
    "first_order": "string",
    "second_order": "string",
    "request_hashes": "strings",
}
CORRECTION_COLUMNS = {
    "pid": "string",
    "rationale": "string",
    "deduplicated": "string",
    "corrected": "string",
    "status": "string",
    "reason": "string",
    "request_hash": "string",
}


def write_rollouts(
    path: Path | str, rollouts: Iterable[Rollout], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes `rollouts/part-<n>.parquet`."""
    rows = [
        {
            **{name: getattr(r, name) for name in ROLLOUT_COLUMNS if hasattr(r, name)},
            "span_start": [span.start for span in r.spans],
            "span_end": [span.end for span in r.spans],
            "token_end": r.token_ends,
        }
        for r in rollouts
    ]
    write_table(path, rows, _schema(ROLLOUT_COLUMNS), metadata)


def read_rollouts(folder: Path | str) -> list[Rollout]:
    """Reads all parts of a rollouts folder, in order."""
    parts = sorted(Path(folder).glob("part-*.parquet"), key=lambda path: int(path.stem.split("-")[1]))
    return [
        Rollout(
            row_id=row["row_id"],
            pid=row["pid"],
            sample=row["sample"],
            text=row["text"],
            token_ids=tuple(row["token_ids"]),
            truncated=row["truncated"],
            spans=tuple(Span(s, e) for s, e in zip(row["span_start"], row["span_end"], strict=True)),
            token_ends=tuple(row["token_end"]),
            logprobs=tuple(row["logprobs"]),
            ref_logprobs=tuple(row["ref_logprobs"]),
        )
        for part in parts
        for row in read_table(part)
    ]


def _write_carriers(columns: Mapping[str, str]) -> Callable[..., None]:
    def write(path: Path | str, rows: Iterable[Any], metadata: Mapping[str, str] | None = None) -> None:
        write_table(path, [vars(row) for row in rows], _schema(columns), metadata)

    return write


write_feedback = _write_carriers(FEEDBACK_COLUMNS)
write_rationales = _write_carriers(RATIONALE_COLUMNS)
write_corrections = _write_carriers(CORRECTION_COLUMNS)
write_verdicts = _write_carriers(VERDICT_COLUMNS)


def read_feedback(path: Path | str) -> list[Feedback]:
    """Reads feedback.parquet."""
    return [
        Feedback(**{**row, "scores": None if row["scores"] is None else tuple(row["scores"])})
        for row in read_table(path)
    ]


def read_rationales(path: Path | str) -> list[Rationale]:
    """Reads rationales-<split>.parquet."""
    return [Rationale(**{**row, "token_ids": tuple(row["token_ids"])}) for row in read_table(path)]


def read_corrections(path: Path | str) -> list[Correction]:
    """Reads corrections.parquet."""
    return [Correction(**row) for row in read_table(path)]


def read_verdicts(path: Path | str) -> list[Verdict]:
    """Reads verdicts.parquet."""
    return [Verdict(**{**row, "request_hashes": tuple(row["request_hashes"])}) for row in read_table(path)]


def write_predictions(path: Path | str, predictions: Iterable[Prediction]) -> None:
    """Writes predictions.jsonl."""
    write_jsonl(path, [vars(prediction) for prediction in predictions])


def read_predictions(path: Path | str) -> list[Prediction]:
    """Reads predictions.jsonl."""
    return [Prediction(**row) for row in read_jsonl(path)]
