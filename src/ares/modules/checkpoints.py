"""When a fit is saved, how it resumes exactly, and what its checkpoints leave out."""

import random
import time
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from ares.modules.checkpoint_files import BEST, LAST, AtomicCheckpointIO
from ares.ranks import is_first

_EPOCH_SHARE = 0.05  # of the time since the last checkpoint, for one at the end of an epoch


@runtime_checkable
class Curves(Protocol):
    """A logger that a resumed fit continues."""

    def resume(self, step: int) -> None:
        """Drops what was logged from this optimizer step on; it is computed again."""


class FitCheckpoints(pl.Callback):
    """Saves a fit between optimizer steps, where it resumes exactly, and the weights of its best validation.

    `last.ckpt` is written every `minutes`, at the end, and after an epoch where that costs little of its time;
    `best.ckpt` holds the weights with the highest `metric`.
    """

    def __init__(self, folder: Path, *, minutes: float, seed: int, metric: str | None = None) -> None:
        self.last, self.best, self.seed, self.metric = folder / LAST, folder / BEST, seed, metric
        self.best_score: float | None = None
        self._interval = 60 * minutes
        self._step, self._time, self._cost = 0, time.monotonic(), 0.0

    def save(self, trainer: pl.Trainer) -> None:
        """Writes `last.ckpt`, unless it is of this step. Only between optimizer steps; every rank must call it."""
        if trainer.global_step == self._step:
            return
        for logger in trainer.loggers:
            logger.save()  # a resumed fit does not log these rows again
        started = time.monotonic()
        trainer.save_checkpoint(self.last, weights_only=False)
        self._step, self._time = trainer.global_step, time.monotonic()
        self._cost = self._time - started

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Reports where a resumed fit continues."""
        self._step, self._time = trainer.global_step, time.monotonic()
        for logger in trainer.loggers:
            if isinstance(logger, Curves):
                logger.resume(trainer.global_step)
        if trainer.ckpt_path is not None and is_first():
            print(f"resumed at epoch {trainer.current_epoch + 1}, step {trainer.global_step}", flush=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Saves the epoch before."""
        if self._elapsed(trainer, min(self._interval, self._cost / _EPOCH_SHARE)):
            self.save(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Saves the optimizer steps before, when it is time; seeds what is random in the batch, such as dropout."""
        between = batch_idx > 0 and batch_idx % trainer.accumulate_grad_batches == 0
        if between and self._elapsed(trainer, self._interval):
            self.save(trainer)
        # By its place, so that a resumed fit draws what an uninterrupted one does, whatever validation has drawn.
        number = batch_idx * trainer.world_size + trainer.global_rank
        own = hash((self.seed, trainer.current_epoch, number))
        random.seed(own)
        np.random.seed(own % 2**32)
        torch.manual_seed(own)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Saves the weights if they are the best."""
        found = None if self.metric is None else trainer.callback_metrics.get(self.metric)
        if found is not None and (self.best_score is None or float(found) > self.best_score):
            self.best_score = float(found)
            trainer.save_checkpoint(self.best, weights_only=True)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Saves the result of the fit."""
        self.save(trainer)

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Frees gradients and moments, which the cycles between a Trainer and its module would keep alive."""
        for optimizer in trainer.optimizers:
            optimizer.zero_grad()
            optimizer.state.clear()

    def _elapsed(self, trainer: pl.Trainer, seconds: float) -> bool:
        """Whether this many seconds have passed since the last checkpoint, by the clock of rank 0."""
        return trainer.strategy.broadcast(time.monotonic() - self._time >= seconds)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Describes the place between two steps: Lightning's loops have already counted the next batch or epoch."""
        loops = checkpoint["loops"]["fit_loop"]
        for progress in (loops["epoch_progress"], loops["epoch_loop.batch_progress"]):
            for count in (progress["total"], progress["current"]):
                count["ready"] = count["started"]
        loops["epoch_loop.batch_progress"]["is_last_batch"] = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit compares its validations with."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.best_score = state_dict["best_score"]


def leave_out_frozen(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Removes frozen weights from a checkpoint's state, in place: a base model is billions of weights that never change."""
    frozen = {
        name for name, weight in module.named_parameters(remove_duplicate=False) if not weight.requires_grad
    }
    checkpoint["state_dict"] = {
        name: tensor for name, tensor in checkpoint["state_dict"].items() if name not in frozen
    }


def leave_out_policy(checkpoint: dict[str, Any]) -> None:
    """Removes the weights under `policy.` from a checkpoint's state, in place: the warm-up of a value model changes none.

    Adapters stay, because another model's may be on the policy's network.
    """
    checkpoint["state_dict"] = {
        name: tensor
        for name, tensor in checkpoint["state_dict"].items()
        if "lora_" in name or not name.startswith("policy.")
    }


def fit_trainer(saving: FitCheckpoints, epochs: int, arguments: dict[str, Any], **own: Any) -> pl.Trainer:
    """The Trainer of a fit of so many epochs that `saving` saves; `own` are arguments of this kind of fit."""
    return pl.Trainer(
        **{**arguments, **own, "callbacks": [saving, *arguments.get("callbacks", ())]},
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,  # Lightning's own
        max_epochs=epochs,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
    )
