"""Micro-batches of a buffer of scored rollouts, visited in a new order every epoch."""

from collections.abc import Sequence

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from ares.datamodules.buffer import RolloutBatch, RolloutBuffer
from ares.datamodules.resuming import RemainingBatches


class MicroBatch(RolloutBatch):
    """A batch that is trained on; `denominator`: the real tokens of its optimizer batch, on all ranks."""

    denominator: float


def optimizer_batches(rows: Sequence[int], *, size: int, seed: int, epoch: int) -> list[list[int]]:
    """One epoch's optimizer batches: every row once, shuffled by (seed, epoch).

    There are as few as `size` rows each allow, and they differ by at most one row, so that no optimizer step gets
    only a few leftover rows.
    """
    order = np.random.default_rng((seed, epoch)).permutation(np.asarray(rows))
    return [part.tolist() for part in np.array_split(order, -(-len(order) // size))]


def micro_batches(rows: Sequence[int], sizes: Sequence[int], count: int) -> list[list[int]]:
    """The rows of an optimizer batch in `count` parts of similar length and equal size (±1; possibly empty)."""
    ordered = sorted(rows, key=lambda row: (sizes[row], row))
    return [part.tolist() for part in np.array_split(np.asarray(ordered, dtype=np.int64), count)]


class RolloutData(pl.LightningDataModule):
    """Micro-batches of a buffer for Lightning: `accumulate` of them on each of `world` ranks make a step.

    Which rows make up a step depends on `global_batch` and the seed alone, not on `micro` or `world`.
    """

    def __init__(
        self,
        buffer: RolloutBuffer,
        *,
        global_batch: int,
        micro: int,
        world: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.buffer, self.global_batch, self.seed = buffer, global_batch, seed
        self.micro, self.world = micro, world
        self.steps_per_epoch = -(-len(buffer.train) // global_batch)
        largest = -(-len(buffer.train) // self.steps_per_epoch)
        self.accumulate = -(-largest // (micro * world))

    def epoch_batches(self, epoch: int, rank: int) -> list[tuple[list[int], int]]:
        """One rank's micro-batches of an epoch in order: (rows, denominator)."""
        buffer, sizes = self.buffer, self.buffer.sizes()
        found = []
        for rows in optimizer_batches(buffer.train, size=self.global_batch, seed=self.seed, epoch=epoch):
            tokens = sum(buffer.lengths[row] for row in rows)
            parts = micro_batches(rows, sizes, self.accumulate * self.world)
            # Neighbors in length go to different ranks, which thus work on similar lengths at a time.
            found += [(part, tokens) for part in parts[rank :: self.world]]
        return found

    def train_dataloader(self) -> DataLoader[MicroBatch]:
        """This epoch's micro-batches on this rank."""
        epoch, rank = (self.trainer.current_epoch, self.trainer.global_rank) if self.trainer else (0, 0)
        batches = self.epoch_batches(epoch, rank)
        rest = RemainingBatches(self.trainer, len(batches))
        return DataLoader(_MicroBatches(self, batches), batch_size=None, sampler=rest)


class _MicroBatches(Dataset[MicroBatch]):
    def __init__(self, data: RolloutData, batches: list[tuple[list[int], int]]) -> None:
        self.data, self.batches = data, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> MicroBatch:
        rows, tokens = self.batches[index]
        return {**self.data.buffer.batch(rows), "denominator": float(tokens)}
