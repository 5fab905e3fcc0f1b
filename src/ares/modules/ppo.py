"""Reinforcement learning over scored rollouts as one plain fit: value warm-up epochs, then PPO epochs.

ARES (section 3.2) rewards every sentence of a rationale; the clipped surrogate objective is PPO's. `rloo` and
`grpo` replace the value model by a comparison of the rationales of one question.

Metrics, means over an optimiser batch's tokens on all ranks (prefix `train/ppo/`): loss, policy_loss,
value_loss; clip_fraction, approx_kl and ratio_mean (policy against rollout policy); kl_k1, kl_k3 (against the
reference, nats a token); policy_grad_norm, value_grad_norm (before clipping); lr (the policy's). At the start of
a PPO epoch: explained_variance (of Monte-Carlo returns, training rows; `heldout/ppo/` for questions that are not
trained on). Once: RolloutBuffer.figures.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn

from ares.datamodules.collate import Features
from ares.datamodules.rollouts import RolloutBuffer, RolloutData
from ares.models.generation import token_logprobs, values
from ares.modules.optimizer import lr_lambda, parameter_groups
from ares.rl.advantages import gae, monte_carlo_returns, sibling_advantages
from ares.rl.kl import kl_penalty
from ares.rl.losses import explained_variance, ppo_loss
from ares.rl.masked import masked_mean, masked_whiten, sum_over_ranks
from ares.types import AresError, RlConfig

TRAIN, HELDOUT = "train/ppo/", "heldout/ppo/"
# How far a float32 forward pass may be from the one that wrote the rollouts' log-probabilities.
_RATIO_TOLERANCE = 1e-4


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
        self.stopped = False
        self.figures: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._steps: list[dict[str, float]] = []

    @property
    def warming_up(self) -> bool:
        """Whether this epoch fits the value model alone."""
        return self.current_epoch < self.warmup_epochs

    # ------------------------------------------------------------------------------- targets of an epoch

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
        buffer, rl = self.data.buffer, self.rl
        rewards, mask = self.rewards.to(self.device), buffer.mask.to(self.device)
        self._steps = []
        monte_carlo = monte_carlo_returns(rewards, mask, gamma=rl.gamma)
        if self.value is None:
            ends = [row.token_ends for row in buffer.rows]
            self.returns, self.advantages = (
                monte_carlo,
                sibling_advantages(
                    self.rewards, buffer.lengths, ends, buffer.siblings(), objective=rl.objective
                ).to(self.device),
            )
        elif self.warming_up:
            self.returns, self.advantages = monte_carlo, torch.zeros_like(monte_carlo)
        else:
            if rl.recompute or self.old_values is None:
                self.old_values = self._buffer_values()
                self._log_explained_variance(self.old_values, monte_carlo, mask)
            self.old_values = self.old_values.to(self.device)
            self.advantages, self.returns = gae(rewards, self.old_values, mask, gamma=rl.gamma, lam=rl.lam)
            if rl.whiten:
                trained = mask.index_fill(
                    0, torch.tensor(buffer.heldout, dtype=torch.long).to(mask.device), 0
                )
                self.advantages = masked_whiten(self.advantages, trained)

    @torch.no_grad()
    def _buffer_values(self) -> Tensor:
        """The values of all rows, (N, T) float32; each rank computes its share."""
        found = torch.zeros(self.rewards.shape, device=self.device)
        sizes, micro = self.data.buffer.sizes(), self.data.micro
        order = sorted(range(len(sizes)), key=sizes.__getitem__)
        chunks = [order[start : start + micro] for start in range(0, len(order), micro)]
        for chunk in chunks[self.trainer.global_rank :: self.trainer.world_size]:
            batch = self.transfer_batch_to_device(self.data.batch(chunk), self.device, 0)
            with self.trainer.precision_plugin.forward_context():
                said = values(self.value, *_inputs(batch))
            found[batch["rows"], : said.shape[1]] = said.float()
        # Every row is 0 on all ranks but one.
        return sum_over_ranks(found)

    def _log_explained_variance(self, said: Tensor, returns: Tensor, mask: Tensor) -> None:
        buffer = self.data.buffer
        for prefix, rows in ((TRAIN, buffer.train), (HELDOUT, buffer.heldout)):
            if rows:
                figure = explained_variance(said[rows], returns[rows], mask[rows])
                self.figures[prefix + "explained_variance"] = float(figure)
                self.log(prefix + "explained_variance", figure, batch_size=1)

    # --------------------------------------------------------------------------------- one micro-batch

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """This micro-batch's share of the optimiser batch's loss."""
        loss = self._value_step(batch) if self.warming_up else self._policy_step(batch, batch_index)
        self._add({"loss": loss})
        # Lightning divides by the micro-batches of a step and DDP by the ranks; `denominator` counts all of them.
        return loss * (self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def _value_step(self, batch: dict[str, Any]) -> Tensor:
        mask = batch["response_mask"]
        errors = (values(self.value, *_inputs(batch)) - self._of(self.returns, batch)).square()
        value_loss = masked_mean(errors, mask, denominator=batch["denominator"])
        self._add({"value_loss": value_loss})
        if self.trainer.world_size > 1:
            # DistributedDataParallel waits for a gradient of every parameter; these are dropped before the step.
            value_loss = value_loss + sum(0.0 * p.sum() for p in self.policy.parameters() if p.requires_grad)
        return self.rl.vf_coef * value_loss

    def _policy_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        rl, mask, denominator = self.rl, batch["response_mask"], batch["denominator"]
        logprobs = token_logprobs(self.policy, *_inputs(batch))
        if self.current_epoch == self.warmup_epochs and batch_index < self.trainer.accumulate_grad_batches:
            self._check_first_ratio(logprobs, batch)
        old_values = torch.zeros_like(mask) if self.old_values is None else self._of(self.old_values, batch)
        loss, metrics = ppo_loss(
            logprobs,
            old_values if self.value is None else values(self.value, *_inputs(batch)),
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
        for estimator in ("k1", "k3"):
            penalty = kl_penalty(logprobs, batch["ref_logprobs"], mask, estimator=estimator)
            divergence = masked_mean(penalty, mask, denominator=denominator)
            self._add({f"kl_{estimator}": divergence})
        if rl.kl_in == "loss":
            loss = loss + rl.kl_coef * divergence
        share = mask.sum() / denominator
        self._add({name: metrics[name] * share for name in ("clip_fraction", "approx_kl", "ratio_mean")})
        self._add({name: metrics[name] for name in ("policy_loss", "value_loss")})
        return loss

    def _check_first_ratio(self, logprobs: Tensor, batch: dict[str, Any]) -> None:
        """Before its first step the policy must say what it said when it wrote the rollouts."""
        if self.trainer.precision not in ("32-true", "64-true"):
            return
        worst = float(
            ((logprobs.detach() - batch["old_logprobs"]).exp() - 1).abs().mul(batch["response_mask"]).max()
        )
        if not worst <= _RATIO_TOLERANCE:
            raise RuntimeError(
                f"The policy does not give the rollouts the probabilities stored with them (|ratio - 1| is {worst:.2g}, "
                f"{_RATIO_TOLERANCE:g} is allowed): it has dropout or is not the one that wrote them; roll out afresh."
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
        self._log({**metrics, "lr": optimizer.param_groups[0]["lr"]})
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
                norm = float(nn.utils.clip_grad_norm_(model.parameters(), limit))
                self._require_finite(f"{name}'s gradient", norm)
                self._log({f"{name}_grad_norm": norm})
                self._steps[-1][f"{name}_grad_norm"] = norm

    def _require_finite(self, what: str, figure: float) -> None:
        if not math.isfinite(figure):
            raise RuntimeError(
                f"The {what} became {figure} at step {self.global_step} (epoch {self.current_epoch}); nothing was "
                "changed by that step. Lower rl.lr, or set rl.gradient_clip and rl.log_ratio_clamp."
            )

    def _log(self, metrics: dict[str, float]) -> None:
        for name, figure in metrics.items():
            self.log(TRAIN + name, figure, prog_bar=name in ("policy_loss", "kl_k3"), batch_size=1)

    def on_train_epoch_end(self) -> None:
        """Keeps the epoch's means over its steps as the latest figures."""
        for name in {name for step in self._steps for name in step}:
            found = [step[name] for step in self._steps if name in step]
            self.figures[TRAIN + name] = sum(found) / len(found)
        self.figures[TRAIN + "stopped_early"] = float(self.stopped)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what weights and optimiser do not tell."""
        kept = None if self.rl.recompute or self.old_values is None else self.old_values.cpu()
        checkpoint["ppo"] = {"figures": self.figures, "stopped": self.stopped, "old_values": kept}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it up again."""
        state = checkpoint["ppo"]
        self.figures, self.stopped, self.old_values = state["figures"], state["stopped"], state["old_values"]

    def configure_optimizers(self) -> Any:
        """AdamW 0.9/0.999; the policy's schedule starts behind the warm-up epochs, the value model's at once."""
        rl, steps = self.rl, self.data.steps_per_epoch
        behind = self.warmup_epochs * steps
        policy = lr_lambda(rl.ppo_epochs * steps, rl.warmup_fraction, rl.decay)
        value = lr_lambda(behind + rl.ppo_epochs * steps, rl.warmup_fraction, rl.decay)
        groups = parameter_groups(self.policy, rl.weight_decay)
        factors = [lambda step: 0.0 if step < behind else policy(step - behind)] * len(groups)
        if self.value is not None:
            groups += parameter_groups(self.value, rl.weight_decay)
            factors += [value] * (len(groups) - len(factors))
        optimizer = torch.optim.AdamW(groups, lr=rl.lr, betas=(0.9, 0.999), eps=rl.adam_eps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _inputs(batch: dict[str, Any]) -> tuple[Any, ...]:
    names = ("input_ids", "attention_mask", "image_features", "response_ids", "response_mask")
    return tuple(batch[name] for name in names)


def _drop_gradients(model: nn.Module) -> None:
    # AdamW passes over a parameter without a gradient: no step, no decay, no moments.
    for parameter in model.parameters():
        parameter.grad = None


def run_ppo(
    policy: Any,
    value: Any,
    buffer: RolloutBuffer,
    rl: RlConfig,
    *,
    seed: int,
    features: Features | None,
    checkpoints: Path,
    trainer_arguments: dict[str, Any],
    callbacks: Sequence[Callback] = (),
) -> dict[str, float]:
    """Trains policy and value model in place (on their device, eval mode afterwards); returns the last figures.

    A checkpoint of every epoch is written to `checkpoints`/last.ckpt; one found there is resumed from, which
    ends in the same weights. `trainer_arguments` go to the Trainer (accelerator, devices, precision, logger, …).
    Raises AresError for a model with dropout, RuntimeError where the rollouts are not the policy's or a loss or
    gradient is not finite.
    """
    for name, model in (("policy", policy), ("value model", value)):
        if model is not None and any(m.p > 0 for m in model.modules() if isinstance(m, nn.Dropout)):
            raise AresError(f"The {name} has dropout, which spoils PPO's ratios; load it with dropout 0.")
    pl.seed_everything(seed, verbose=False)
    device = policy.device
    keep = ModelCheckpoint(
        checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    warmup = rl.value_warmup_epochs if rl.objective == "ppo" else 0
    trainer = pl.Trainer(
        **{**trainer_arguments, "log_every_n_steps": 1},
        max_epochs=warmup + rl.ppo_epochs,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        callbacks=[keep, *callbacks],
    )
    data = RolloutData(
        buffer,
        features=features,
        global_batch=rl.global_batch_size,
        micro=rl.micro_batch_size,
        world=trainer.world_size,
        seed=seed,
    )
    trainer.accumulate_grad_batches = data.accumulate
    module = PPOModule(policy, value, data, rl)
    last = checkpoints / "last.ckpt"
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
    # Lightning leaves a model on the CPU.
    module.to(device).eval()
    return module.figures
