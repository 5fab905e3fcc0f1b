"""Rollouts as columns: the tokens of all rows one after another, mapped from files instead of held in memory."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ares.storage.tables import read_rollout_table, rollout_parts, rollout_table
from ares.types import AresError, Rollout

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = ("row_id", "pid", "truncated", "repetition")
# Columns of lists, with the type of their entries.
_LISTS: dict[str, Any] = {
    "token_ids": np.int32,
    "token_end": np.int32,
    "logprobs": np.float32,
    "ref_logprobs": np.float32,
    "sampler_logprobs": np.float32,
}


@dataclass(frozen=True)
class FlatRollouts:
    """N rollouts of n tokens and m sentences in all, in order.

    Row i has the tokens `offsets[i]` to `offsets[i + 1]` of `token_ids` (n,) int32 and of `logprobs`, `ref_logprobs` and
    `sampler_logprobs` (n,) float32, the last the policy's own where it wrote the row itself, and the sentences
    `sentences[i]` to `sentences[i + 1]` of `token_ends` (m,) int32.
    """

    row_ids: Sequence[str]
    pids: Sequence[str]
    truncated: Sequence[bool]
    repetition: Sequence[float]
    offsets: NDArray[np.int64]
    sentences: NDArray[np.int64]
    token_ids: NDArray[np.int32]
    token_ends: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    ref_logprobs: NDArray[np.float32]
    sampler_logprobs: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.row_ids)

    def ends(self, row: int) -> list[int]:
        """The index of the last token of each sentence of a row."""
        return self.token_ends[self.sentences[row] : self.sentences[row + 1]].tolist()


def flat_rollouts(rows: Sequence[Rollout]) -> FlatRollouts:
    """Rows in memory as columns. Raises AresError where a row does not have one log-probability per token."""
    return _flat([rollout_table(rows)], scratch=None)


def read_flat_rollouts(folder: Path, scratch: Path) -> FlatRollouts:
    """Reads all parts of a rollouts folder, in order, into files without a name in the folder `scratch`.

    Raises AresError where a part cannot be read, or a row does not have one log-probability per token.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    return _flat(map(read_rollout_table, rollout_parts(folder)), scratch)


def _flat(tables: Iterable["pa.Table"], scratch: Path | None) -> FlatRollouts:
    import pyarrow.compute as pc

    rows: dict[str, list[Any]] = {name: [] for name in _ROWS}
    counts: dict[str, list[int]] = {name: [] for name in _LISTS}
    files = {name: tempfile.TemporaryFile(dir=scratch) for name in _LISTS}  # noqa: SIM115
    for table in tables:
        for name, values in rows.items():
            values += table[name].to_pylist()
        for name, file in files.items():
            column = table[name]
            if name == "sampler_logprobs":
                column = pc.call_function("coalesce", [column, table["logprobs"]])
            for chunk in column.chunks:
                counts[name] += chunk.value_lengths().to_pylist()
                file.write(chunk.flatten().to_numpy().astype(_LISTS[name]).tobytes())
    _check(rows["row_id"], counts)
    flat = {name: _mapped(file, _LISTS[name]) for name, file in files.items()}
    return FlatRollouts(
        row_ids=rows["row_id"],
        pids=rows["pid"],
        truncated=rows["truncated"],
        repetition=rows["repetition"],
        offsets=_offsets(counts["token_ids"]),
        sentences=_offsets(counts["token_end"]),
        token_ids=flat["token_ids"],
        token_ends=flat["token_end"],
        logprobs=flat["logprobs"],
        ref_logprobs=flat["ref_logprobs"],
        sampler_logprobs=flat["sampler_logprobs"],
    )


def _check(row_ids: Sequence[str], counts: dict[str, list[int]]) -> None:
    for name in ("logprobs", "ref_logprobs", "sampler_logprobs"):
        for row_id, tokens, known in zip(row_ids, counts["token_ids"], counts[name], strict=True):
            if tokens != known:
                raise AresError(
                    f"Rollout {row_id} does not have one log-probability per token; roll out afresh."
                )


def _offsets(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _mapped(file: Any, kind: Any) -> NDArray[Any]:
    file.flush()
    return (
        np.memmap(file, kind, "r+") if file.tell() else np.zeros(0, kind)
    )  # a file without bytes has no map
