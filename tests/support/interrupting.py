"""Ends a fit in its middle, as a kill does: without a chance to save anything."""

import pytorch_lightning as pl


class Killed(Exception):
    """What ends a fit."""


class KillAt(pl.Callback):
    """Raises Killed after a micro-batch of an epoch; both count from 0."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.place = (epoch, batch)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        """Raises Killed at the place."""
        if (trainer.current_epoch, batch_idx) == self.place:
            raise Killed


class Batches(pl.Callback):
    """Records the micro-batches that a fit trains on, as (epoch, number)."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        """Records one."""
        self.seen.append((trainer.current_epoch, batch_idx))
