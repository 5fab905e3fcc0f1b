"""Checks that stop a fit before a weight changes: numbers that are not finite, rollouts of another policy."""

import math
import statistics
import sys
from collections import defaultdict, deque
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor

from ares.ranks import is_first
from ares.rl.masked import max_over_ranks, sum_over_ranks
from ares.types import AresError

# Differences of float32 from the sampling pass, in batches of other shapes: on average and at one token.
_MEAN_TOLERANCE, _LARGEST_TOLERANCE = 1e-4, 1e-2
# A spike is ten times the median of up to 50 values, or 100 times for a norm that is clipped, which changes little.
_SPIKE, _CLIPPED_SPIKE, _WINDOW = 10.0, 100.0, 50
_LEAST = 10  # norms before the first spike: those of the first steps differ
_KL = "KL divergence from the reference"
_KL_REMEDY = "Lower rl.lr, raise rl.kl_coef, or set a lower rl.target_kl."
_HIGH_NORM, _HIGH_KL = 1.0, 5.0  # below, nothing is a spike; nats per token


def check_first_ratio(
    logprobs: Tensor,
    old_logprobs: Tensor,
    mask: Tensor,
    *,
    what: str = "rollouts",
    remedy: str = "roll out afresh",
) -> None:
    """Raises AresError where, before its first step, the policy does not give responses their stored probabilities.

    All (B, T); every rank must call it. `what` the responses are called, `remedy`: what a user can do.
    """
    difference = ((logprobs.detach() - old_logprobs).exp() - 1).abs().masked_fill(mask == 0, 0)
    total, count = sum_over_ranks(torch.stack([difference.sum().double(), mask.sum().double()])).tolist()
    mean, largest = total / max(1.0, count), float(max_over_ranks(difference.max()))
    if not is_same_policy(mean, largest):
        raise AresError(
            f"The policy does not give the {what} their stored probabilities (|ratio - 1| is {mean:.2g} on average, "
            f"{largest:.2g} at most): it has dropout or is not the one that wrote them; {remedy}."
        )


def is_same_policy(mean: float, largest: float) -> bool:
    """Whether |ratio − 1| of stored probabilities, on average and at most, is but the rounding of float32."""
    return mean <= _MEAN_TOLERANCE and largest <= _LARGEST_TOLERANCE


@dataclass
class _Spikes:
    """The spikes of one number in a fit, and the first of them."""

    step: int
    value: float
    usual: float
    count: int = 0


class StepChecks:
    """Looks at the numbers of each optimizer step before it is taken: stops at NaN and infinity, counts spikes.

    `block` of the configuration has the learning rate, the limit of the gradient's norm and further `limits` of a step;
    None where one is not set.
    """

    def __init__(self, block: str, gradient_clip: float | None, **limits: float | None) -> None:
        unset = [name for name, limit in {"gradient_clip": gradient_clip, **limits}.items() if limit is None]
        more = ", or set " + " and ".join(f"{block}.{name}" for name in unset) if unset else ""
        self.remedy = f"Lower {block}.lr{more}."
        self.clipped = gradient_clip is not None
        self._recent: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_WINDOW))
        self._spikes: dict[str, _Spikes] = {}

    def finite(self, what: str, value: float, module: pl.LightningModule) -> None:
        """Raises AresError where a loss or gradient norm is not finite; reports the spikes before it."""
        if not math.isfinite(value):
            self.report()
            raise AresError(
                f"The {what} became {value} at step {module.global_step} (epoch {module.current_epoch}); nothing was "
                f"changed by that step. {self.remedy}"
            )

    def gradient(self, what: str, norm: float, module: pl.LightningModule) -> None:
        """Raises AresError for a norm that is not finite, and counts a spike."""
        self.finite(what, norm, module)
        times = _CLIPPED_SPIKE if self.clipped else _SPIKE
        self._count(f"norm of the {what}", norm, module, above=_HIGH_NORM, times=times, after=_LEAST)

    def divergence(self, value: float, module: pl.LightningModule) -> None:
        """Counts a spike of the KL divergence from the reference, in nats per token."""
        self._count(_KL, value, module, above=_HIGH_KL, times=_SPIKE, after=1)

    def _count(
        self, what: str, value: float, module: pl.LightningModule, *, above: float, times: float, after: int
    ) -> None:
        recent = self._recent[what]
        usual = statistics.median(recent) if recent else 0.0
        if len(recent) >= after and value > max(above, times * usual):
            self._spikes.setdefault(what, _Spikes(module.global_step, value, usual)).count += 1
        recent.append(value)

    def report(self) -> None:
        """Warns of a fit's spikes, in one line for each number."""
        for what, first in self._spikes.items() if is_first() else ():
            count = f", the first of {first.count:,} such steps" if first.count > 1 else ""
            text = f"the {what} was {first.value:.3g} at step {first.step}, usually {first.usual:.3g}{count}."
            remedy = _KL_REMEDY if what == _KL else self.remedy
            print(f"warning: {text} {remedy}", file=sys.stderr, flush=True)
        self._spikes.clear()
