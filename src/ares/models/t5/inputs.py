"""Prompts as a T5 with image fusion takes them: token ids, and image features by problem."""

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ares.models.inputs import first_rows
from ares.models.transfer import sent
from ares.rl.masked import pad_right


class Features(Protocol):
    """Looks up image features by problem; `shape` is (P, D)."""

    shape: tuple[int, int]

    def get(self, pids: Sequence[str]) -> np.ndarray:
        """(len(pids), P, D) float32."""
        ...


class T5Inputs:
    """Prompts as token ids, with the image features of their problems looked up when a model needs them."""

    # No dataclass: Lightning would look into it for tensors to convert.
    def __init__(
        self,
        ids: Sequence[Sequence[int]],
        pids: Sequence[str],
        features: Features | None,
        pad_id: int,
        device: torch.device | str = "cpu",
        beginnings: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.ids, self.pids, self.features, self.pad_id, self.device = ids, pids, features, pad_id, device
        self.beginnings: Sequence[Sequence[int]] = beginnings or [()] * len(ids)  # of the responses

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each prompt and of the beginning of its response."""
        return [len(ids) + len(begun) for ids, begun in zip(self.ids, self.beginnings, strict=True)]

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: Sequence[int]) -> "T5Inputs":
        """The prompts of the given rows, in their order."""
        ids, pids = [self.ids[row] for row in rows], [self.pids[row] for row in rows]
        begun = [self.beginnings[row] for row in rows]
        return T5Inputs(ids, pids, self.features, self.pad_id, self.device, begun)

    def repeat(self, k: int) -> "T5Inputs":
        """Each prompt k times in succession."""
        return self.select([row for row in range(len(self)) for _ in range(k)])

    def distinct(self) -> tuple["T5Inputs", list[int]]:
        """The prompts without repetitions, in order, and which of them each row is."""
        known = (self.pids, map(tuple, self.ids), map(tuple, self.beginnings))
        first, which = first_rows(zip(*known, strict=True))
        return (self, which) if len(first) == len(self) else (self.select(first), which)

    def loaded(self) -> "T5Inputs":
        """Themselves: looking features up takes no longer than handing them over."""
        return self

    def begun(self, beginnings: Sequence[Sequence[int]]) -> "T5Inputs":
        """The prompts, each with the beginning of its response."""
        return T5Inputs(self.ids, self.pids, self.features, self.pad_id, self.device, beginnings)

    def to(self, device: torch.device | str) -> "T5Inputs":
        """The same prompts on a device."""
        return T5Inputs(self.ids, self.pids, self.features, self.pad_id, device, self.beginnings)

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """`(input_ids (B, S) int64, attention_mask (B, S) int64, image_features (B, P, D) float32 or None)`."""
        images = None
        if self.features is not None:
            known = torch.as_tensor(self.features.get(self.pids), dtype=torch.float32)
            images = sent(known, self.device)
        mask = pad_right([[1] * len(ids) for ids in self.ids], 0)
        return sent(pad_right(self.ids, self.pad_id), self.device), sent(mask, self.device), images
