"""Ends a fit after a signal, where all ranks can stop and nothing is lost."""

from typing import Any

import pytorch_lightning as pl

from ares import interrupts
from ares.modules.checkpoints import FitCheckpoints
from ares.ranks import stop_at


class StopOnSignal(pl.Callback):
    """Saves and stops a fit between two optimizer steps after a signal; `step` is the fit's key, for the report."""

    def __init__(self, step: str) -> None:
        self.step, self.seen = step, 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """From here on a signal waits for the end of an optimizer step."""
        interrupts.set_handlers()
        interrupts.defer(True)
        self.seen = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Raises Interrupted if all ranks stop before this batch."""
        if batch_idx > 0:
            self._stop(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Raises Interrupted if all ranks stop before this epoch."""
        self._stop(trainer)

    def _stop(self, trainer: pl.Trainer) -> None:
        if trainer.global_step == self.seen:
            return  # nothing new, or the gradients of an optimizer step are incomplete
        self.seen = trainer.global_step
        if stop_at(trainer.global_step, interrupts.received()):
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, FitCheckpoints):
                    callback.save(trainer)
            interrupts.note(f"{self.step}, epoch {trainer.current_epoch + 1}, step {trainer.global_step}")
            interrupts.check()

    def on_train_end(self, *_: Any) -> None:
        """From here on a signal raises at once again."""
        interrupts.defer(False)
        interrupts.check()

    def on_exception(self, *_: Any) -> None:
        """As `on_train_end`, but something else has ended the fit."""
        interrupts.defer(False)
