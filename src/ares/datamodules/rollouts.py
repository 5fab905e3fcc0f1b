"""Micro-batches of a buffer, such as one of scored rollouts, visited in a new order every epoch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from ares.datamodules.ahead import load_batches
from ares.datamodules.buffer import RolloutBatch, RolloutBuffer
from ares.datamodules.parts import Unit, filled, spread
from ares.datamodules.resuming import RemainingBatches
from ares.models.inputs import Inputs


class Buffer(Protocol):
    """N rows, each with the number of its question (`question`) and the tokens of its responses (`lengths`)."""

    train: list[int]
    question: list[int]
    lengths: list[int]
    inputs: Inputs  # of the questions

    def groups(self, rows: Iterable[int] | None = None) -> list[list[int]]:
        """The rows (None: all) of each question, in order."""
        ...

    def batch(self, rows: Sequence[int]) -> Mapping[str, object]:
        """The given rows for a forward pass; no rows give one that counts for nothing."""
        ...


BufferT = TypeVar("BufferT", bound=Buffer)


class MicroBatch(RolloutBatch):
    """A batch that is trained on; `denominator`: the real tokens of its optimizer batch, on all ranks."""

    denominator: float


def units_of(groups: Iterable[Sequence[int]], size: int) -> list[Unit]:
    """The rows of each question in as few units of at most `size` rows as possible."""
    return [
        part.tolist() for rows in groups for part in np.array_split(np.asarray(rows), -(-len(rows) // size))
    ]


def optimizer_batches(units: Sequence[Unit], *, size: int, seed: int, epoch: int) -> list[list[Unit]]:
    """One epoch's optimizer batches of whole units: each once, shuffled by (seed, epoch).

    There are as few as `size` rows each allow. Their numbers of units differ by at most one, so that no optimizer step
    gets only a few leftover rows; where units differ in size, some batches have a few rows more than `size`.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(units))
    count = min(len(units), -(-sum(map(len, units)) // size))
    return [[units[i] for i in part] for part in np.array_split(order, count)]


class BufferData(pl.LightningDataModule, Generic[BufferT]):
    """Micro-batches of a buffer for Lightning: `accumulate` of them on each of `world` ranks make a step.

    Which rows make up a step depends on `global_batch`, `micro` and the seed alone, not on `world`. Rows of a question
    stay together, so that its prompt is computed once for them: up to `micro` rows or, where `micro_tokens` is set, as
    many as share that number of tokens.
    """

    def __init__(
        self,
        buffer: BufferT,
        *,
        global_batch: int,
        micro: int,
        world: int,
        seed: int,
        micro_tokens: int | None = None,
        epochs: int = 1,
    ) -> None:
        super().__init__()
        self.buffer, self.global_batch, self.seed = buffer, global_batch, seed
        self.micro, self.micro_tokens, self.world = micro, micro_tokens, world
        largest = global_batch if micro_tokens else min(global_batch, micro)
        self.units = units_of(buffer.groups(buffer.train), largest)
        parts = [len(step) for epoch in range(epochs) for step in self._steps(epoch)]
        self.steps_per_epoch = len(parts) // epochs
        self.accumulate = -(-max(parts) // world)

    def _steps(self, epoch: int) -> list[list[list[Unit]]]:
        """The optimizer batches of an epoch, each as parts of similar length, as few as memory allows."""
        batches = optimizer_batches(self.units, size=self.global_batch, seed=self.seed, epoch=epoch)
        return [
            filled(sorted(units, key=self._order), self.cost, rows=self.micro, tokens=self.micro_tokens)
            for units in batches
        ]

    def _order(self, unit: Unit) -> tuple[int, int]:
        return sum(self.buffer.lengths[row] for row in unit), unit[0]

    def cost(self, unit: Unit) -> int:
        """The tokens of a unit: of its prompt, and of all responses."""
        prompt = self.buffer.inputs.lengths[self.buffer.question[unit[0]]]
        return prompt + sum(self.buffer.lengths[row] for row in unit)

    def epoch_batches(self, epoch: int, rank: int) -> list[tuple[list[int], int]]:
        """One rank's micro-batches of an epoch in order: (rows, denominator)."""
        found = []
        for step in self._steps(epoch):
            denominator = self.count([row for part in step for unit in part for row in unit])
            # Neighbors in length go to different ranks, which thus work on similar lengths at a time.
            parts = spread(step, self.cost, self.accumulate * self.world)
            found += [(part, denominator) for part in parts[rank :: self.world]]
        return found

    def count(self, rows: Sequence[int]) -> int:
        """What the loss of an optimizer batch is divided by: the tokens of its rows."""
        return sum(self.buffer.lengths[row] for row in rows)

    def train_dataloader(self) -> DataLoader[Mapping[str, object]]:
        """This epoch's micro-batches on this rank."""
        epoch, rank = (self.trainer.current_epoch, self.trainer.global_rank) if self.trainer else (0, 0)
        batches = self.epoch_batches(epoch, rank)
        rest = RemainingBatches(self.trainer, len(batches))
        return load_batches(_MicroBatches(self, batches), self.trainer, rest)


class RolloutData(BufferData[RolloutBuffer]):
    """Micro-batches of scored rollouts."""


class _MicroBatches(Dataset[Mapping[str, object]]):
    def __init__(self, data: BufferData, batches: list[tuple[list[int], int]]) -> None:
        self.data, self.batches = data, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Mapping[str, object]:
        rows, denominator = self.batches[index]
        return {**self.data.buffer.batch(rows), "denominator": float(denominator)}
