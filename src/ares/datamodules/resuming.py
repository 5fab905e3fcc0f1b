"""The place inside an epoch at which a resumed fit continues."""

from collections.abc import Iterator

import pytorch_lightning as pl
from torch.utils.data import Sampler


class RemainingBatches(Sampler[int]):
    """The numbers of an epoch's batches, without those that a resumed fit has trained on; its length counts all."""

    def __init__(self, trainer: pl.Trainer | None, count: int) -> None:
        self.first, self.count = 0, count
        if trainer is not None and trainer.fit_loop.restarting:
            self.first = trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.count))
