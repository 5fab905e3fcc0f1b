"""Files that are either whole or absent, and the view of a run folder that a step works in.

Every write goes to a temporary file beside its target, is synced, and replaces the target in one rename, so a
killed process leaves no half-written artefact. The formats are open: JSON, JSONL, parquet, folders of safetensors.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ares.schema import Config
from ares.types import AresError, Correction, Feedback, Prediction, Rationale, Rollout, Span, Verdict


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yields a path beside `path` to write a file to; it replaces `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yields an empty folder beside `path`; it replaces the folder `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256_file(path: Path | str) -> str:
    """The sha256 (hex) of a file's bytes, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_path(path: Path | str) -> str:
    """The sha256 (hex) of a file, or of the names and contents of a folder's files in order of their names.

    Hidden files (temporary ones, locks) do not count. Raises FileNotFoundError where there is neither.
    """
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    if not path.is_dir():
        raise FileNotFoundError(path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    return hash_of([[p.relative_to(path).as_posix(), sha256_file(p)] for p in files])


def hash_of(value: Any) -> str:
    """The sha256 (hex) of a value's canonical JSON (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Writes a value as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Reads a JSON file; raises AresError naming file and line where it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise AresError(
            f"{path} is not valid JSON (line {error.lineno}: {error.msg}); repair or remove it."
        ) from None
    except UnicodeDecodeError as error:
        raise AresError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8.") from None


def write_jsonl(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, atomically."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """Reads one JSON object a line."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


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


# --------------------------------------------------------------------------------------------------
# The artefacts (design §3, "Files")
# --------------------------------------------------------------------------------------------------


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


# --------------------------------------------------------------------------------------------------
# What a step is given
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A run folder as one step sees it.

    `key` names the step in the manifest ("round-1/ppo"), `folder` is where it writes, `inputs` maps the names
    of upstream artefacts ("policy", "rollouts", ...) to their paths, `hash` is the hash of configuration and inputs.
    """

    root: Path
    key: str
    folder: Path
    round: int
    config: Config
    hash: str
    inputs: Mapping[str, Path] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        """Where the step keeps what it resumes from; named by its hash, so that a changed step starts afresh."""
        return self.folder / f".checkpoints-{self.hash[:12]}"

    @property
    def provenance(self) -> dict[str, str]:
        """What every table of this step carries in its metadata."""
        return {"ares.step": self.key, "ares.hash": self.hash}


@dataclass(frozen=True)
class Outputs:
    """What a step made: artefacts by name, final figures by name, and what the Teacher cost (US dollars)."""

    files: Mapping[str, Path]
    metrics: Mapping[str, float] = field(default_factory=dict)
    usd: float = 0.0
    requests: int = 0
