"""Checks that stop a fit before a weight changes: losses that are not finite, rollouts of another policy."""

import math

import pytorch_lightning as pl
import torch
from torch import Tensor

from ares.rl.masked import max_over_ranks, sum_over_ranks
from ares.types import AresError

# Differences of float32 from the sampling pass, in batches of other shapes: on average and at one token.
_MEAN_TOLERANCE, _LARGEST_TOLERANCE = 1e-4, 1e-2


def check_first_ratio(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> None:
    """Raises AresError where, before its first step, the policy does not give the rollouts their stored probabilities.

    All (B, T); every rank must call it.
    """
    difference = ((logprobs.detach() - old_logprobs).exp() - 1).abs().masked_fill(mask == 0, 0)
    total, count = sum_over_ranks(torch.stack([difference.sum().double(), mask.sum().double()])).tolist()
    mean, largest = total / max(1.0, count), float(max_over_ranks(difference.max()))
    if not (mean <= _MEAN_TOLERANCE and largest <= _LARGEST_TOLERANCE):
        raise AresError(
            f"The policy does not give the rollouts their stored probabilities (|ratio - 1| is {mean:.2g} on average, "
            f"{largest:.2g} at most): it has dropout or is not the one that wrote them; roll out afresh."
        )


def require_finite(what: str, value: float, module: pl.LightningModule) -> None:
    """Raises AresError where a loss or gradient norm is not finite, before the step that it belongs to."""
    if not math.isfinite(value):
        raise AresError(
            f"The {what} became {value} at step {module.global_step} (epoch {module.current_epoch}); nothing was "
            "changed by that step. Lower rl.lr, or set rl.gradient_clip and rl.log_ratio_clamp."
        )
