"""The LightningModule of preference optimization: a policy over micro-batches of pairs.

It logs means over an optimizer batch's pairs on all ranks (docs/metrics.md).
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from ares.config.preference import PreferConfig
from ares.datamodules.pairs import PairBatch, PairData, PairMicroBatch
from ares.models.policy import Policy
from ares.modules.checkpoints import leave_out_frozen
from ares.modules.checks import StepChecks, check_first_ratio
from ares.modules.optimizer import lr_lambda, scheduled_adamw
from ares.modules.sharding import full, shard_models
from ares.rl import preference
from ares.rl.kl import kl_penalty
from ares.rl.masked import sum_over_ranks

TRAIN, HELDOUT = "train/", "heldout/"
_HELDOUT = ("accuracy", "margin", "reward_chosen", "reward_rejected", "kl")  # the metrics of held-out pairs


class PreferenceModule(pl.LightningModule):
    """A policy that is trained to prefer the chosen responses of pairs, relative to the stored reference."""

    def __init__(self, policy: Policy, data: PairData, prefer: PreferConfig) -> None:
        super().__init__()
        self.policy, self.data, self.prefer = policy, data, prefer
        self.checks = StepChecks("prefer", prefer.gradient_clip)
        self.strict_loading = False  # frozen weights are in no checkpoint
        self.metrics: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._steps: list[dict[str, float]] = []
        # What responses are compared with in this optimizer step: kto, kto_pair.
        self._kl: dict[str, Tensor] = {}

    def configure_model(self) -> None:
        """Shards the policy where the strategy does so."""
        shard_models([self.policy], self)

    def on_train_start(self) -> None:
        """Measures the held-out pairs and, for kto, mismatched responses under the policy that is the reference still."""
        if self.global_step == 0:
            if self.prefer.loss == "kto":
                self.data.buffer.mismatched_ref = self._mismatched()
            self._measure_heldout()

    def training_step(self, batch: PairMicroBatch, batch_index: int) -> Tensor:
        """This micro-batch's part of the optimizer batch's loss."""
        if batch_index % self.trainer.accumulate_grad_batches == 0:
            self._kl = self._step_kl(batch_index)
        logprobs = self._logprobs(batch)
        exact = self.trainer.precision in ("32-true", "64-true")
        if exact and self.global_step == 0 and batch_index < self.trainer.accumulate_grad_batches:
            check_first_ratio(
                logprobs,
                batch["ref_logprobs"],
                batch["response_mask"],
                what="pairs",
                remedy="make pairs of this policy",
            )
        found = self._measured(logprobs, batch)
        for name, values in found.items():
            share = (values * batch["real"]).sum() / batch["denominator"]
            self._sums[name] = self._sums.get(name, 0.0) + share.detach()
        loss = (found["loss"] * batch["real"]).sum() / batch["denominator"]
        # Lightning divides by the micro-batches of a step and DDP by the ranks; `denominator` counts all of them.
        return loss * (self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def _logprobs(self, batch: PairBatch) -> Tensor:
        """The log-probabilities of all sides, (2B, T); a response that several pairs have is computed once."""
        found = self.policy.token_logprobs(batch["inputs"], batch["response_ids"], batch["lengths"])
        return found[batch["responses"]]

    def _sum(self, logprobs: Tensor, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """The sums of both sides, (B,) float64 each."""
        mean = self.prefer.length_norm
        sums = preference.response_sums(logprobs.double(), batch["weights"].double(), mean=mean)
        chosen, rejected = sums.chunk(2)
        return chosen, rejected

    def _measured(self, logprobs: Tensor, batch: PairBatch) -> dict[str, Tensor]:
        """The loss of each pair, differentiable, and its metrics: (B,) each."""
        prefer, mask, reference = self.prefer, batch["response_mask"], batch["ref_logprobs"]
        chosen, rejected = self._sum(logprobs, batch)
        ref_chosen, ref_rejected = self._sum(reference, batch)
        loss = self._loss()(chosen, rejected, ref_chosen, ref_rejected)
        up, down = (
            prefer.beta * (own - ref).detach()
            for own, ref in ((chosen, ref_chosen), (rejected, ref_rejected))
        )
        kl = kl_penalty(reference, logprobs.detach(), mask, estimator="k3").sum(1)
        lengths = mask.sum(1).view(2, -1).sum(0).clamp(min=1)
        return {
            "loss": loss.view(-1, len(up)).mean(0),  # kto and kto_pair: the mean of a pair's two responses
            "accuracy": (up > down).double(),
            "margin": up - down,
            "reward_chosen": up,
            "reward_rejected": down,
            "logp_chosen": chosen.detach(),
            "logp_rejected": rejected.detach(),
            "kl": kl.view(2, -1).sum(0) / lengths,
        }

    def _loss(self) -> Any:
        """The configured loss as a function of the four sums."""
        prefer = self.prefer
        options: dict[str, Any] = {"beta": prefer.beta, **self._kl}
        if prefer.loss in ("dpo", "ddpo"):
            options["label_smoothing"] = prefer.label_smoothing
        if prefer.loss == "kto":
            options["desirable_weight"] = prefer.desirable_weight
            options["undesirable_weight"] = prefer.undesirable_weight
        return partial(preference.LOSSES[prefer.loss], **options)

    # ---------------------------------------------------------------- what responses are compared with

    @torch.no_grad()
    def _step_kl(self, batch_index: int) -> dict[str, Tensor]:
        """The KLs of kto and kto_pair over all pairs of the optimizer step that begins here, before it changes anything."""
        if self.prefer.loss not in ("kto", "kto_pair"):
            return {}
        own = self.data.epoch_batches(self.current_epoch, self.trainer.global_rank)
        parts = own[batch_index : batch_index + self.trainer.accumulate_grad_batches]
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for rows, _ in parts:
            sums += self._log_ratios(rows)
        means = (sum_over_ranks(sums) / parts[0][1]).clamp(min=0)
        if self.prefer.loss == "kto":
            return {"reference_point": means[0]}
        return {"kl_chosen": means[0], "kl_rejected": means[1]}

    def _log_ratios(self, rows: Sequence[int]) -> Tensor:
        """Summed over pairs, Δ of the chosen and the rejected responses or, for kto, of the mismatched ones twice: (2,)."""
        batch = self._on_device(self.data.buffer.batch(rows))
        if self.prefer.loss == "kto":
            delta = self._mismatched_sums(rows or [0]) - batch["mismatched_ref"]
            return (delta * batch["real"]).sum().expand(2)
        with self.trainer.precision_plugin.forward_context():
            logprobs = self._logprobs(batch)
        both = zip(self._sum(logprobs, batch), self._sum(batch["ref_logprobs"], batch), strict=True)
        return torch.stack([((own - ref) * batch["real"]).sum() for own, ref in both])

    def _mismatched_sums(self, rows: Sequence[int]) -> Tensor:
        """The policy's sums (B,) float64 of responses to other prompts."""
        inputs, ids, mask, lengths = self._on_device(self.data.buffer.mismatched(rows))
        with self.trainer.precision_plugin.forward_context():
            logprobs = self.policy.token_logprobs(inputs, ids, lengths)
        return preference.response_sums(logprobs.double(), mask.double(), mean=self.prefer.length_norm)

    @torch.no_grad()
    def _mismatched(self) -> Tensor:
        """The mismatched sums of all pairs (N,), each computed on one rank."""
        found = torch.zeros(len(self.data.buffer), dtype=torch.float64, device=self.device)
        for rows in self._chunks(range(len(found))):
            sums = self._mismatched_sums(rows or [0])
            found[rows] = sums[: len(rows)]
        return sum_over_ranks(found).cpu()

    def _chunks(self, rows: Sequence[int]) -> list[list[int]]:
        """This rank's share of rows, in chunks of `micro`; every rank has as many chunks."""
        size, world = self.data.micro, self.trainer.world_size
        chunks = [list(rows[start : start + size]) for start in range(0, len(rows), size)]
        chunks += [[]] * (-len(chunks) % world)
        return chunks[self.trainer.global_rank :: world]

    def _on_device(self, batch: Any) -> Any:
        return self.trainer.strategy.batch_to_device(batch, self.device)

    # ---------------------------------------------------------------- steps, metrics, checkpoints

    @torch.no_grad()
    def _measure_heldout(self) -> None:
        """Logs the metrics of the held-out pairs, where there are any."""
        rows, sums = self.data.buffer.heldout, dict[str, Tensor]()
        for chunk in self._chunks(rows):
            batch = self._on_device(self.data.buffer.batch(chunk))
            with self.trainer.precision_plugin.forward_context():
                logprobs = self._logprobs(batch)
            for name, values in self._measured(logprobs, batch).items():
                sums[name] = sums.get(name, 0.0) + (values * batch["real"]).sum()
        if rows:
            total = sum_over_ranks(torch.stack([sums[name] for name in _HELDOUT])) / len(rows)
            metrics = dict(zip(_HELDOUT, total.tolist(), strict=True))
            self.metrics |= {HELDOUT + name: value for name, value in metrics.items()}
            for logger in self.trainer.loggers:
                logger.log_metrics({HELDOUT + n: v for n, v in metrics.items()}, step=self.global_step)

    def on_train_epoch_start(self) -> None:
        """Starts a fresh set of steps."""
        self._steps = []

    def on_train_epoch_end(self) -> None:
        """Keeps the epoch's means over its steps as the latest metrics, and measures the held-out pairs."""
        for name in self._steps[0] if self._steps else ():
            self.metrics[TRAIN + name] = sum(step[name] for step in self._steps) / len(self._steps)
        self._measure_heldout()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Logs the optimizer batch; refuses a loss that is not finite."""
        sums = sum_over_ranks(torch.stack([share.double() for share in self._sums.values()])).tolist()
        metrics, self._sums = dict(zip(self._sums, sums, strict=True)), {}
        self.checks.finite("loss", metrics["loss"], self)
        self.checks.divergence(metrics["kl"], self)
        if self._kl:
            metrics["compared_kl"] = float(max(self._kl.values()))
        self._log({**metrics, "lr": optimizer.param_groups[0]["lr"]})
        self._steps.append(metrics)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Clips by the norm; refuses one that is not finite."""
        limit = math.inf if self.prefer.gradient_clip is None else self.prefer.gradient_clip
        norm = float(full(nn.utils.clip_grad_norm_([weight for _, weight in self.policy.trained()], limit)))
        self.checks.gradient("gradient", norm, self)
        self._log({"grad_norm": norm})

    def _log(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self.log(TRAIN + name, value, prog_bar=name in ("loss", "accuracy"), batch_size=1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves state that is in neither the weights nor the optimizer; leaves frozen weights out."""
        leave_out_frozen(self, checkpoint)
        state = {"metrics": self.metrics, "steps": self._steps}
        checkpoint["preference"] = {**state, "mismatched_ref": self.data.buffer.mismatched_ref}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores it."""
        state = checkpoint["preference"]
        self.metrics, self._steps = state["metrics"], state["steps"]
        self.data.buffer.mismatched_ref = state["mismatched_ref"]

    def configure_optimizers(self) -> Any:
        """AdamW without decay on norms and biases; warm-up, then constant or linear decay."""
        prefer, steps = self.prefer, self.prefer.epochs * self.data.steps_per_epoch
        return scheduled_adamw(
            [(self.policy, lr_lambda(steps, prefer.warmup_fraction, prefer.decay))],
            lr=prefer.lr,
            weight_decay=prefer.weight_decay,
            eps=1e-8,
            beta2=prefer.adam_beta2,
        )
