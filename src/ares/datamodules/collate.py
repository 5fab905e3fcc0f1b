"""Ragged token sequences as right-padded tensors, with the image features of their problems."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

IGNORED = -100


class Features(Protocol):
    """Where image features are looked up by problem."""

    def get(self, pids: Sequence[str]) -> np.ndarray:
        """(len(pids), P, D) float32."""
        ...


class SequencePair(Protocol):
    """A problem's prompt and label ids."""

    @property
    def pid(self) -> str: ...
    @property
    def input_ids(self) -> Sequence[int]: ...
    @property
    def label_ids(self) -> Sequence[int]: ...


def pad_right(rows: Sequence[Sequence[float]], value: float, *, dtype: torch.dtype | None = None) -> Tensor:
    """`rows` padded behind with `value`: (B, longest row); int64 where `value` is an int, else float32.

    `dtype` overrides that. No rows, or only empty ones, give a tensor without elements.
    """
    dtype = dtype or (torch.int64 if isinstance(value, int) else torch.float32)
    padded = torch.full((len(rows), max(map(len, rows), default=0)), value, dtype=dtype)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.as_tensor(row, dtype=dtype)
    return padded


def lookup(features: Features | None, pids: Sequence[str]) -> Tensor | None:
    """The image features of problems, (B, P, D) float32; None with features=none."""
    return None if features is None else torch.as_tensor(features.get(pids), dtype=torch.float32)


def collate_prompts(
    prompts: Sequence[Sequence[int]], pids: Sequence[str], pad_id: int, features: Features | None
) -> dict[str, Tensor | None]:
    """`input_ids`, `attention_mask` (B, S) int64 and `image_features` (B, P, D) float32 or None."""
    return {
        "input_ids": pad_right(prompts, pad_id),
        "attention_mask": pad_right([[1] * len(prompt) for prompt in prompts], 0),
        "image_features": lookup(features, pids),
    }


def collate_seq2seq(rows: Sequence[SequencePair], pad_id: int, features: Features | None) -> dict[str, Any]:
    """`collate_prompts` and `labels` (B, T) int64, −100 on padding, and `pids`."""
    pids = [row.pid for row in rows]
    batch = collate_prompts([row.input_ids for row in rows], pids, pad_id, features)
    return {**batch, "labels": pad_right([row.label_ids for row in rows], IGNORED), "pids": pids}
