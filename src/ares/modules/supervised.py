"""Supervised fine-tuning of a policy: rationale, sft and, on an adapter, lora."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from ares.config.schema import FitConfig
from ares.datamodules.supervised import SupervisedBatch, SupervisedData
from ares.models.policy import Policy, Trainable
from ares.models.weights import opening
from ares.modules.batching import print_batches
from ares.modules.checkpoint_files import checkpoint_to_resume
from ares.modules.checkpoints import FitCheckpoints, fit_trainer, leave_out_frozen
from ares.modules.checks import StepChecks
from ares.modules.optimizer import lr_lambda, scheduled_adamw
from ares.modules.sharding import full, gathered_again, shard_models, unsharded
from ares.ranks import gather

# (references, hypotheses) -> a metric to maximize
Score = Callable[[Sequence[str], Sequence[str]], float]


class FitModule(pl.LightningModule):
    """What supervised fits share: checkpoints, clipping, and the optimizer; `policy` is the model that is trained."""

    def __init__(
        self, policy: Trainable, fit: FitConfig, *, total_steps: int, metric: str, block: str
    ) -> None:
        super().__init__()
        self.policy: Any = policy
        self.fit, self.total_steps, self.metric = fit, total_steps, metric
        self.loss: Tensor | None = None
        self._total = torch.zeros(())  # of the losses of an optimizer step
        self.checks = StepChecks(block, fit.gradient_clip)
        self.strict_loading = False  # frozen weights are in no checkpoint

    def configure_model(self) -> None:
        """Shards the policy where the strategy does so."""
        shard_models([self.policy], self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves frozen weights out; keeps the loss, which a fit that was resumed at its end still returns."""
        leave_out_frozen(self, checkpoint)
        checkpoint["loss"] = self.loss

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores it."""
        self.loss = checkpoint["loss"]

    def on_fit_start(self) -> None:
        """Turns dropout on: Lightning leaves a module that `from_pretrained` returned in eval mode."""
        self.policy.train()

    def step_loss(self, total: Tensor, count: int, denominator: int) -> Tensor:
        """Logs the mean of a micro-batch's loss, `total` over `count`; returns its part of the optimizer batch's loss."""
        self.loss = total.detach() / max(1, count)
        self._total = self._total.to(self.loss) + self.loss
        self.log("loss", self.loss, prog_bar=True, batch_size=max(1, count))
        self.log("lr", self.lr_schedulers().get_last_lr()[0], batch_size=1)  # type: ignore[union-attr]
        # Lightning divides by the accumulated batches and DDP by the ranks; the denominator counts all of them.
        return total / denominator * (self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Clips by the norm; refuses a loss or norm that is not finite.

        Lightning's own clipping refuses a fused optimizer in bf16-mixed, although nothing is scaled.
        """
        self.checks.finite("loss", float(self._total), self)
        self._total = torch.zeros(())
        limit = math.inf if self.fit.gradient_clip is None else self.fit.gradient_clip
        # In the optimizer's order, as Lightning does: another order rounds the norm in another way.
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.checks.gradient("gradient", float(full(nn.utils.clip_grad_norm_(weights, limit))), self)

    def configure_optimizers(self) -> Any:
        """AdamW without decay on norms and biases; warm-up, then constant or linear decay."""
        fit = self.fit
        return scheduled_adamw(
            [(self.policy, lr_lambda(self.total_steps, fit.warmup_fraction, fit.decay))],
            lr=fit.lr,
            weight_decay=fit.weight_decay,
            eps=1e-8,
            beta2=fit.adam_beta2,
        )


class SupervisedModule(FitModule):
    """Cross-entropy over real target tokens; validation generates greedily and scores the texts."""

    policy: Policy

    def __init__(
        self, policy: Policy, fit: FitConfig, *, total_steps: int, score: Score, metric: str, block: str
    ) -> None:
        super().__init__(policy, fit, total_steps=total_steps, metric=metric, block=block)
        self.score = score
        self.references: list[str] = []
        self.hypotheses: list[str] = []

    def training_step(self, batch: SupervisedBatch, batch_index: int) -> Tensor:
        """This micro-batch's part of the optimizer batch's loss: −Σ log-probabilities / denominator (nats per token)."""
        lengths = batch["lengths"]
        total = -self.policy.token_logprobs(batch["inputs"], batch["response_ids"], lengths).sum()
        return self.step_loss(total, sum(lengths), batch["denominator"])

    def on_validation_epoch_start(self) -> None:
        """Starts a fresh set of texts."""
        self.references, self.hypotheses = [], []

    def validation_step(self, batch: SupervisedBatch, batch_index: int) -> None:
        """Generates greedily, unless the batch is one that counts for nothing."""
        with unsharded(self.policy):
            if not any(batch["lengths"]):
                return
            written = self.policy.greedy(batch["inputs"], max_new_tokens=self.fit.max_output_tokens)
        self.hypotheses += [self.policy.decode(ids) for ids in written]
        self.references += [self.policy.decode(ids) for ids in batch["response_ids"].tolist()]

    def on_validation_epoch_end(self) -> None:
        """Logs the score of the generated texts of all ranks."""
        parts = gather([self.references, self.hypotheses])
        references = [text for part in parts for text in part[0]]
        hypotheses = [text for part in parts for text in part[1]]
        self.log(self.metric, float(self.score(references, hypotheses)), prog_bar=True)


def fit_supervised(
    policy: Policy,
    data: SupervisedData,
    fit: FitConfig,
    *,
    score: Score,
    metric: str,
    block: str,
    devices: int,
    checkpoints: Path,
    checkpoint_minutes: float,
    trainer_arguments: dict[str, Any],
) -> dict[str, float]:
    """Trains `policy` in place (on its device) on `data`, with its seed, and leaves the weights of its best validation in it.

    `block` of the configuration has the settings `fit`. Checkpoints go to `checkpoints`, at least every `checkpoint_minutes`; a last one found there is resumed from.
    Raises AresError where a loss or gradient is not finite.
    """
    build = partial(SupervisedModule, policy, fit, score=score, metric=metric, block=block)
    return run_fit(build, data, fit, metric, devices, checkpoints, checkpoint_minutes, trainer_arguments)


def run_fit(
    build: Callable[..., FitModule],
    data: SupervisedData,
    fit: FitConfig,
    metric: str,
    devices: int,
    checkpoints: Path,
    checkpoint_minutes: float,
    trainer_arguments: dict[str, Any],
) -> dict[str, float]:
    """`fit_supervised` of the module that `build(total_steps=...)` returns."""
    data.setup("fit")  # the schedule needs the number of steps before the Trainer asks for batches
    data.plan(fit.epochs)
    label, batch = f"fine-tuning for {metric}", fit.global_batch_size
    rows, epochs = len(data.train), fit.epochs
    print_batches(label, data, rows=rows, global_batch=batch, world=devices, epochs=epochs)
    pl.seed_everything(data.seed, verbose=False)
    steps = fit.epochs * data.steps_per_epoch
    module = build(total_steps=steps)
    saving = FitCheckpoints(checkpoints, minutes=checkpoint_minutes, seed=data.seed, metric=metric)
    trainer = fit_trainer(
        saving,
        fit.epochs,
        trainer_arguments,
        accumulate_grad_batches=data.accumulate,
        check_val_every_n_epoch=min(fit.eval_every_epochs, fit.epochs),
        num_sanity_val_steps=0,
    )
    _fit_and_take_best(trainer, module, data, saving, checkpoint_to_resume(checkpoints))
    # Without questions to validate on there is no score, and the latest weights stay.
    metrics = {metric: saving.best_score, "loss": module.loss}
    return {name: float(value) for name, value in metrics.items() if value is not None}


def _fit_and_take_best(
    trainer: pl.Trainer,
    module: FitModule,
    data: SupervisedData,
    saving: FitCheckpoints,
    last: Path | None,
) -> None:
    policy, device = module.policy, module.policy.device
    with gathered_again([policy], trainer) as [module.policy]:
        trainer.fit(module, data, ckpt_path=last)
    module.checks.report()
    module.policy = policy
    if saving.best_score is not None:
        remedy = f"remove {saving.best.parent} and run the same command again"
        with opening("The weights of the best validation cannot be loaded", remedy):
            state = torch.load(saving.best, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state, strict=False)
    policy.to(device)  # Lightning leaves a model on the CPU
