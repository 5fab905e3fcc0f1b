"""The LightningModule of PPO: value warm-up epochs, then epochs of the clipped objective, over a fixed buffer.

`rloo` and `grpo` replace the value model by a comparison of the rationales of one question.

Metrics, means over an optimiser batch's tokens on all ranks (prefix `train/`): loss, policy_loss,
value_loss; clip_fraction, approx_kl and ratio_mean (policy against rollout policy); kl_k1, kl_k3 (against the
reference, nats a token); entropy (nats a token); policy_grad_norm, value_grad_norm (before clipping); lr (the
policy's); tokens_per_second. At the start of a PPO epoch: explained_variance (of Monte-Carlo returns, training rows;
`heldout/` for questions that are not trained on). Once: RolloutBuffer.figures. All of them: docs/metrics.md.
"""

import math
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from ares.config.schema import RlConfig
from ares.datamodules.rollouts import RolloutData
from ares.models.heads import SharedBackboneValue
from ares.models.t5.generation import response_states, states_logprobs, values
from ares.modules.optimizer import lr_lambda, scheduled_adamw
from ares.modules.sharding import is_sharded, shard, whole
from ares.modules.targets import buffer_values, epoch_targets, model_inputs, value_fit
from ares.rl.kl import kl_penalty
from ares.rl.losses import ppo_loss
from ares.rl.masked import masked_mean, max_over_ranks, sum_over_ranks
from ares.types import AresError

TRAIN, HELDOUT = "train/", "heldout/"
# How far float32 may be from what wrote the rollouts: on average, and, in a batch of another shape, at one token.
_RATIO_TOLERANCE, _LARGEST_TOLERANCE = 1e-4, 1e-2


class PPOModule(pl.LightningModule):
    """Policy and value model over a buffer's micro-batches; there is no value model unless `objective=ppo`."""

    def __init__(self, policy: nn.Module, value: nn.Module | None, data: RolloutData, rl: RlConfig) -> None:
        super().__init__()
        self.policy, self.value = policy, value if rl.objective == "ppo" else None
        self.rl, self.data = rl, data
        self.warmup_epochs = rl.value_warmup_epochs if rl.objective == "ppo" else 0
        self.rewards = data.buffer.token_rewards(kl_coef=rl.kl_coef if rl.kl_in == "reward" else 0.0)
        self.advantages = self.returns = torch.zeros_like(self.rewards)
        self.old_values: Tensor | None = None
        self.stopped = self.sharded = False
        self.figures: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._steps: list[dict[str, float]] = []
        self._clock, self._tokens = 0.0, 0.0

    @property
    def warming_up(self) -> bool:
        """Whether this epoch fits the value model alone."""
        return self.current_epoch < self.warmup_epochs

    # ------------------------------------------------------------------------------------------- an epoch

    def on_train_start(self) -> None:
        """Logs what is trained on; a run that was resumed behind its early stop stops again."""
        self.trainer.should_stop = self.stopped
        static = {TRAIN + name: figure for name, figure in self.data.buffer.figures().items()}
        self.figures |= static
        if self.global_step == 0:
            for logger in self.trainer.loggers:
                logger.log_metrics(static, step=0)

    def on_train_epoch_start(self) -> None:
        """Sets this epoch's advantages and returns; values are computed afresh or, without recompute, once."""
        self._steps = []
        rewards = self.rewards.to(self.device)
        if self.value is not None and not self.warming_up and (self.rl.recompute or self.old_values is None):
            self.old_values = buffer_values(self.value, self.data, self.trainer)
            for prefix, rows in ((TRAIN, self.data.buffer.train), (HELDOUT, self.data.buffer.heldout)):
                if rows:
                    fit = value_fit(self.data.buffer, rewards, self.old_values, rows, gamma=self.rl.gamma)
                    self.figures[prefix + "explained_variance"] = fit
                    self.log(prefix + "explained_variance", fit, batch_size=1)
        known = torch.zeros_like(rewards) if self.old_values is None else self.old_values.to(self.device)
        self.advantages, self.returns = epoch_targets(
            self.data.buffer, rewards, known, self.rl, warming_up=self.warming_up
        )
        self._clock = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        """Keeps the epoch's means over its steps as the latest figures."""
        for name in dict.fromkeys(name for step in self._steps for name in step):
            found = [step[name] for step in self._steps if name in step]
            self.figures[TRAIN + name] = sum(found) / len(found)
        self.figures[TRAIN + "stopped_early"] = float(self.stopped)

    # --------------------------------------------------------------------------------- one micro-batch

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """This micro-batch's share of the optimiser batch's loss."""
        self._tokens = batch["denominator"]
        loss = self._value_step(batch) if self.warming_up else self._policy_step(batch, batch_index)
        self._add({"loss": loss})
        # Lightning divides by the micro-batches of a step and DDP by the ranks; `denominator` counts all of them.
        return loss * (self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def _value_step(self, batch: dict[str, Any]) -> Tensor:
        mask = batch["response_mask"]
        errors = (values(self.value, *model_inputs(batch)) - self._of(self.returns, batch)).square()
        value_loss = masked_mean(errors, mask, denominator=batch["denominator"])
        self._add({"value_loss": value_loss})
        if isinstance(self.trainer.strategy, DDPStrategy):
            # DistributedDataParallel waits for a gradient of every parameter; these are dropped before the step.
            value_loss = value_loss + sum(0.0 * p.sum() for p in self.policy.parameters() if p.requires_grad)
        return self.rl.vf_coef * value_loss

    def _policy_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        rl, mask, denominator = self.rl, batch["response_mask"], batch["denominator"]
        states = response_states(self.policy, *model_inputs(batch)[:-1])
        logprobs, entropy = states_logprobs(self.policy, states, batch["response_ids"], mask, entropy=True)
        if self.current_epoch == self.warmup_epochs and batch_index < self.trainer.accumulate_grad_batches:
            self._check_first_ratio(logprobs, batch)
        old_values = torch.zeros_like(mask) if self.old_values is None else self._of(self.old_values, batch)
        loss, metrics = ppo_loss(
            logprobs,
            old_values if self.value is None else self._values(batch, states),
            batch["old_logprobs"],
            old_values,
            self._of(self.advantages, batch),
            self._of(self.returns, batch),
            mask,
            clip_range=rl.clip_range,
            vf_coef=0.0 if self.value is None else rl.vf_coef,
            value_clip_range=rl.value_clip_range,
            log_ratio_clamp=rl.log_ratio_clamp,
            denominator=denominator,
        )
        self._add({"entropy": masked_mean(entropy, mask, denominator=denominator)})
        for estimator in ("k1", "k3"):
            penalty = kl_penalty(logprobs, batch["ref_logprobs"], mask, estimator=estimator)
            divergence = masked_mean(penalty, mask, denominator=denominator)
            self._add({f"kl_{estimator}": divergence})
        if rl.kl_in == "loss":
            loss = loss + rl.kl_coef * divergence
        share = mask.sum() / denominator
        self._add({name: metrics[name] * share for name in ("clip_fraction", "approx_kl", "ratio_mean")})
        losses = ("policy_loss",) if self.value is None else ("policy_loss", "value_loss")
        self._add({name: metrics[name] for name in losses})
        return loss

    def _values(self, batch: dict[str, Any], states: Tensor) -> Tensor:
        if isinstance(self.value, SharedBackboneValue):
            return self.value.of_states(states, batch["response_mask"])
        return values(self.value, *model_inputs(batch))

    def _check_first_ratio(self, logprobs: Tensor, batch: dict[str, Any]) -> None:
        # Before its first step the policy must say what it said when it wrote the rollouts.
        if self.trainer.precision not in ("32-true", "64-true"):
            return
        mask = batch["response_mask"]
        difference = ((logprobs.detach() - batch["old_logprobs"]).exp() - 1).abs().masked_fill(mask == 0, 0)
        total, count = sum_over_ranks(torch.stack([difference.sum().double(), mask.sum().double()])).tolist()
        mean, largest = total / max(1.0, count), float(max_over_ranks(difference.max()))
        if not (mean <= _RATIO_TOLERANCE and largest <= _LARGEST_TOLERANCE):
            raise AresError(
                f"The policy does not give the rollouts their stored probabilities (|ratio - 1| is {mean:.2g} on average, "
                f"{largest:.2g} at most): it has dropout or is not the one that wrote them; roll out afresh."
            )

    def _of(self, table: Tensor, batch: dict[str, Any]) -> Tensor:
        return table[batch["rows"], : batch["response_mask"].shape[1]]

    def _add(self, shares: dict[str, Tensor]) -> None:
        for name, share in shares.items():
            self._sums[name] = self._sums.get(name, 0.0) + share.detach()

    # --------------------------------------------------------------------------------- one optimiser step

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Logs the optimiser batch; refuses a loss that is not finite; at `target_kl` drops the step and stops."""
        sums = sum_over_ranks(torch.stack([share.double() for share in self._sums.values()])).tolist()
        metrics = dict(zip(self._sums, sums, strict=True))
        self._sums = {}
        self._require_finite("loss", metrics["loss"])
        now = time.perf_counter()
        speed, self._clock = self._tokens / (now - self._clock), now
        self._log({**metrics, "lr": optimizer.param_groups[0]["lr"], "tokens_per_second": speed})
        self._steps.append(metrics)
        if self.warming_up:
            _drop_gradients(self.policy)
        elif self.rl.target_kl is not None and metrics["approx_kl"] > self.rl.target_kl:
            _drop_gradients(self)
            self.stopped = self.trainer.should_stop = True

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Clips policy and value gradients, each by its own norm; refuses one that is not finite."""
        limit = math.inf if self.rl.gradient_clip is None else self.rl.gradient_clip
        for name, model in (("policy", self.policy), ("value", self.value)):
            if model is not None and any(p.grad is not None for p in model.parameters()):
                norm = float(whole(nn.utils.clip_grad_norm_(model.parameters(), limit)))
                self._require_finite(f"{name}'s gradient", norm)
                self._log({f"{name}_grad_norm": norm})
                self._steps[-1][f"{name}_grad_norm"] = norm

    def _require_finite(self, what: str, figure: float) -> None:
        if not math.isfinite(figure):
            raise AresError(
                f"The {what} became {figure} at step {self.global_step} (epoch {self.current_epoch}); nothing was "
                "changed by that step. Lower rl.lr, or set rl.gradient_clip and rl.log_ratio_clamp."
            )

    def _log(self, metrics: dict[str, float]) -> None:
        for name, figure in metrics.items():
            self.log(TRAIN + name, figure, prog_bar=name in ("policy_loss", "kl_k3"), batch_size=1)

    # ------------------------------------------------------------------------------------------ the fit

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what weights and optimiser do not tell."""
        kept = None if self.rl.recompute or self.old_values is None else self.old_values.cpu()
        checkpoint["ppo"] = {"figures": self.figures, "stopped": self.stopped, "old_values": kept}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it up again."""
        state = checkpoint["ppo"]
        self.figures, self.stopped, self.old_values = state["figures"], state["stopped"], state["old_values"]

    def configure_model(self) -> None:
        """Shards both models where the strategy does so."""
        if is_sharded(self.trainer.strategy) and not self.sharded:
            for model in (self.policy, self.value):
                if model is not None:
                    shard(model, self.device_mesh["data_parallel"])  # type: ignore[index]
            self.sharded = True

    def configure_optimizers(self) -> Any:
        """AdamW 0.9/0.999; the policy's schedule starts behind the warm-up epochs, the value model's at once."""
        rl, steps = self.rl, self.data.steps_per_epoch
        behind = self.warmup_epochs * steps
        policy = lr_lambda(rl.ppo_epochs * steps, rl.warmup_fraction, rl.decay)
        value = lr_lambda(behind + rl.ppo_epochs * steps, rl.warmup_fraction, rl.decay)
        parts = [(self.policy, lambda step: 0.0 if step < behind else policy(step - behind))]
        if self.value is not None:
            scale = (rl.value_lr or rl.lr) / rl.lr
            parts.append((self.value, lambda step: scale * value(step)))
        return scheduled_adamw(parts, lr=rl.lr, weight_decay=rl.weight_decay, eps=rl.adam_eps)


def _drop_gradients(model: nn.Module) -> None:
    # AdamW passes over a parameter without a gradient: no step, no decay, no moments.
    for parameter in model.parameters():
        parameter.grad = None
