"""The LightningModule of RL: value warm-up epochs, then epochs of the clipped objective, over a fixed buffer.

It logs means over an optimizer batch's tokens on all ranks (docs/metrics.md)."""

import math
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from ares.config.schema import RlConfig
from ares.datamodules.rollouts import MicroBatch, RolloutData
from ares.models.policy import Policy, Trainable, ValueModel
from ares.modules.checkpoints import leave_out_frozen, leave_out_policy
from ares.modules.checks import StepChecks, check_first_ratio
from ares.modules.optimizer import Part, drop_gradients, lr_lambda, scheduled_adamw
from ares.modules.sharding import full, shard_models
from ares.modules.targets import buffer_returns, buffer_values, epoch_targets, value_fit
from ares.rl.kl import kl_penalty
from ares.rl.masked import masked_mean, sum_over_ranks
from ares.rl.objectives import Objective

TRAIN, HELDOUT = "train/", "heldout/"
_STATE = ("metrics", "stopped", "old_values", "_steps")  # is in neither the weights nor the optimizer


class PPOModule(pl.LightningModule):
    """Policy and, where the objective needs one, value model over a buffer's micro-batches."""

    def __init__(
        self,
        policy: Policy,
        value: ValueModel | None,
        data: RolloutData,
        rl: RlConfig,
        objective: Objective,
    ) -> None:
        super().__init__()
        self.policy, self.value = policy, value
        self.rl, self.data, self.objective = rl, data, objective
        self.warmup_epochs = rl.value_warmup_epochs if value is not None else 0
        self.rewards = data.buffer.token_rewards(kl_coef=rl.kl_coef if rl.kl_in == "reward" else 0.0)
        self.advantages = self.returns = torch.zeros_like(self.rewards)
        self.old_values: Tensor | None = None
        self.checks = StepChecks("rl", rl.gradient_clip, log_ratio_clamp=rl.log_ratio_clamp)
        self.strict_loading = False  # frozen weights are in no checkpoint
        self.metrics: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._steps: list[dict[str, float]] = []
        self._clock, self._tokens, self.stopped = 0.0, 0.0, False

    @property
    def models(self) -> list[Trainable]:
        """The policy and, where there is one, the value model."""
        return [self.policy] if self.value is None else [self.policy, self.value]

    def replace_models(self, models: Sequence[Trainable]) -> None:
        """Trains other models instead."""
        self.policy, self.value = models[0], models[1] if len(models) > 1 else None  # type: ignore[assignment]

    @property
    def warming_up(self) -> bool:
        """Whether this epoch fits the value model alone."""
        return self.current_epoch < self.warmup_epochs

    def on_train_start(self) -> None:
        """Logs the metrics of the buffer; a run resumed after early stopping stops again."""
        self.trainer.should_stop = self.stopped
        if self.global_step <= self.warmup_epochs * self.data.steps_per_epoch:
            # A resumed sharded fit: torch has made up moments, one step old, of weights without any.
            for _, weight in self.policy.trained():
                self.trainer.optimizers[0].state.pop(weight, None)
        self.metrics |= (static := {TRAIN + n: value for n, value in self.data.buffer.metrics().items()})
        if self.global_step == 0:
            for logger in self.trainer.loggers:
                logger.log_metrics(static, step=0)
        if self.trainer.fit_loop.restarted_mid_epoch:
            self._start_epoch()

    def on_train_epoch_start(self) -> None:
        """Sets this epoch's advantages and returns; values are recomputed or, without `recompute`, kept."""
        self._steps, self.old_values = [], None if self.rl.recompute else self.old_values
        self._start_epoch()

    def _start_epoch(self) -> None:
        rewards, buffer = self.rewards.to(self.device), self.data.buffer
        if self.warming_up:
            self.returns = buffer_returns(buffer, rewards, gamma=self.rl.gamma)
        else:
            values = torch.zeros_like(rewards) if self.value is None else self._update_values(rewards)
            advantages, self.returns = epoch_targets(self.objective, buffer, rewards, values, self.rl)
            self.advantages = advantages * buffer.sampler_weights.to(self.device)
        self._clock = time.perf_counter()

    def _update_values(self, rewards: Tensor) -> Tensor:
        assert self.value is not None
        if self.old_values is None:
            self.old_values = buffer_values(self.value, self.data, self.trainer)
        values = self.old_values = self.old_values.to(self.device)
        for prefix, rows in ((TRAIN, self.data.buffer.train), (HELDOUT, self.data.buffer.heldout)):
            if rows:
                fit = value_fit(self.data.buffer, rewards, values, rows, gamma=self.rl.gamma)
                self.metrics[prefix + "explained_variance"] = fit
                self.log(prefix + "explained_variance", fit, batch_size=1)
        return values

    def on_train_epoch_end(self) -> None:
        """Keeps the epoch's means over its steps as the latest metrics."""
        for name in dict.fromkeys(name for step in self._steps for name in step):
            found = [step[name] for step in self._steps if name in step]
            self.metrics[TRAIN + name] = sum(found) / len(found)
        self.metrics[TRAIN + "stopped_early"] = float(self.stopped)

    def training_step(self, batch: MicroBatch, batch_index: int) -> Tensor:
        """This micro-batch's part of the optimizer batch's loss."""
        self._tokens = batch["denominator"]
        loss = self._value_step(batch) if self.warming_up else self._policy_step(batch, batch_index)
        self._add({"loss": loss})
        # Lightning divides by the micro-batches of a step and DDP by the ranks; `denominator` counts all of them.
        return loss * (self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def _value_step(self, batch: MicroBatch) -> Tensor:
        assert self.value is not None
        mask = batch["response_mask"]
        values = self.value.values(batch["inputs"], batch["response_ids"], batch["lengths"])
        errors = (values - self._rows_of(self.returns, batch)).square()
        value_loss = masked_mean(errors, mask, denominator=batch["denominator"])
        self._add({"value_loss": value_loss})
        if isinstance(self.trainer.strategy, DDPStrategy):
            # It waits for a gradient of every parameter; these are dropped before the step.
            value_loss = value_loss + sum(0.0 * weight.sum() for _, weight in self.policy.trained())
        return self.rl.vf_coef * value_loss

    def _policy_step(self, batch: MicroBatch, batch_index: int) -> Tensor:
        rl, mask, denominator = self.rl, batch["response_mask"], batch["denominator"]
        inputs, ids, lengths = batch["inputs"], batch["response_ids"], batch["lengths"]
        states = self.policy.states(inputs, ids, lengths)
        logprobs, entropy = self.policy.logprobs(states, ids, lengths, entropy=True)
        step = batch_index // self.trainer.accumulate_grad_batches
        exact = self.trainer.precision in ("32-true", "64-true")
        if exact and (self.current_epoch, step) == (self.warmup_epochs, 0):
            check_first_ratio(logprobs, batch["old_logprobs"], mask)
        old_values = values = self._rows_of(self.old_values, batch)
        if self.value is not None:
            values = self.value.values(inputs, ids, lengths, states=states)
        loss, metrics = self.objective.loss(
            logprobs,
            values,
            batch["old_logprobs"],
            old_values,
            self._rows_of(self.advantages, batch),
            self._rows_of(self.returns, batch),
            mask,
            clip_range=rl.clip_range,
            vf_coef=0.0 if self.value is None else rl.vf_coef,
            value_clip_range=rl.value_clip_range,
            log_ratio_clamp=rl.log_ratio_clamp,
            denominator=denominator,
        )
        self._add({"entropy": masked_mean(entropy, mask, denominator=denominator)})
        divergence = self._divergences(logprobs, batch)
        if rl.kl_in == "loss":
            loss = loss + rl.kl_coef * divergence["kl_k3"]
        share = mask.sum() / denominator
        self._add({name: metrics[name] * share for name in ("clip_fraction", "approx_kl", "ratio_mean")})
        losses = ("policy_loss",) if self.value is None else ("policy_loss", "value_loss")
        self._add({name: metrics[name] for name in losses})
        return loss

    def _divergences(self, logprobs: Tensor, batch: MicroBatch) -> dict[str, Tensor]:
        ref_logprobs, mask, denominator = batch["ref_logprobs"], batch["response_mask"], batch["denominator"]
        found = {}
        for name in ("k1", "k3"):
            penalty = kl_penalty(logprobs, ref_logprobs, mask, estimator=name)
            found[f"kl_{name}"] = masked_mean(penalty, mask, denominator=denominator)
        self._add(found)
        return found

    def _rows_of(self, table: Tensor | None, batch: MicroBatch) -> Tensor:
        mask = batch["response_mask"]
        return torch.zeros_like(mask) if table is None else table[batch["places"]].masked_fill(mask == 0, 0)

    def _add(self, shares: dict[str, Tensor]) -> None:
        for name, share in shares.items():
            self._sums[name] = self._sums.get(name, 0.0) + share.detach()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Logs the optimizer batch; refuses a loss that is not finite; at `target_kl` drops the step and stops."""
        sums = sum_over_ranks(torch.stack([share.double() for share in self._sums.values()])).tolist()
        metrics = dict(zip(self._sums, sums, strict=True))
        self._sums = {}
        self.checks.finite("loss", metrics["loss"], self)
        self.checks.divergence(metrics.get("kl_k3", 0.0), self)
        now = time.perf_counter()
        speed, self._clock = self._tokens / (now - self._clock), now
        self._log({**metrics, "lr": optimizer.param_groups[0]["lr"], "tokens_per_second": speed})
        self._steps.append(metrics)
        if self.warming_up:
            drop_gradients(self.policy)
        elif self.rl.target_kl is not None and metrics["approx_kl"] > self.rl.target_kl:
            for model in self.models:
                drop_gradients(model)
            self.stopped = self.trainer.should_stop = True

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Clips policy and value gradients, each by its own norm; refuses one that is not finite."""
        limit = math.inf if self.rl.gradient_clip is None else self.rl.gradient_clip
        for name, model in (("policy", self.policy), ("value", self.value)):
            weights = [] if model is None else [weight for _, weight in model.trained()]
            if any(weight.grad is not None for weight in weights):
                norm = float(full(nn.utils.clip_grad_norm_(weights, limit)))
                self.checks.gradient(f"{name}'s gradient", norm, self)
                self._log({f"{name}_grad_norm": norm})
                self._steps[-1][f"{name}_grad_norm"] = norm

    def _log(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self.log(TRAIN + name, value, prog_bar=name in ("policy_loss", "kl_k3"), batch_size=1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves the module's own state; leaves out weights that are frozen, or the policy's during the warm-up."""
        leave_out_frozen(self, checkpoint)
        if self.global_step <= self.warmup_epochs * self.data.steps_per_epoch:
            leave_out_policy(checkpoint)
        checkpoint["ppo"] = {name: getattr(self, name) for name in _STATE}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores it."""
        vars(self).update(checkpoint["ppo"])

    def configure_model(self) -> None:
        """Shards both models where the strategy does so."""
        shard_models(self.models, self)

    def configure_optimizers(self) -> Any:
        """AdamW 0.9/0.999; the policy's schedule starts after the warm-up epochs, the value model's at once."""
        rl, steps = self.rl, self.data.steps_per_epoch
        warmup = self.warmup_epochs * steps
        policy = lr_lambda(rl.ppo_epochs * steps, rl.warmup_fraction, rl.decay)
        value = lr_lambda(warmup + rl.ppo_epochs * steps, rl.warmup_fraction, rl.decay)
        parts: list[Part] = [(self.policy, lambda step: 0.0 if step < warmup else policy(step - warmup))]
        if self.value is not None:
            scale = (rl.value_lr or rl.lr) / rl.lr
            parts.append((self.value, lambda step: scale * value(step)))
        return scheduled_adamw(parts, lr=rl.lr, weight_decay=rl.weight_decay, eps=rl.adam_eps)
