"""Shows the progress of a fit on the console's line."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar

from ares.console import progress
from ares.ranks import is_first


class FitProgress(ProgressBar):
    """Takes the place of Lightning's bar: the share of all epochs, and the present one."""

    def disable(self) -> None:
        """Lightning calls it on other ranks than the first, which show nothing anyway."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *batch: Any) -> None:
        """Shows the epoch and the share of the fit that is done."""
        self._show(trainer, batch[-1] + 1)

    def on_validation_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *batch: Any) -> None:
        """Shows that the epoch is being validated."""
        if not trainer.sanity_checking:
            self._show(trainer, int(trainer.num_training_batches), " validation")

    def _show(self, trainer: pl.Trainer, batches: int, suffix: str = "") -> None:
        epochs, size = trainer.max_epochs or 0, float(trainer.num_training_batches)
        if is_first() and epochs > 0 and 0 < size < float("inf"):
            done = trainer.current_epoch * size + batches
            progress.show(done, epochs * size, detail=f"epoch {trainer.current_epoch + 1}/{epochs}{suffix}")
