"""Checks that stop a fit before a weight changes: numbers that are not finite, rollouts of another policy."""

import math
import statistics
import sys
from collections import defaultdict, deque

import pytorch_lightning as pl
import torch
from torch import Tensor

from ares.ranks import is_first
from ares.rl.masked import max_over_ranks, sum_over_ranks
from ares.types import AresError

# Differences of float32 from the sampling pass, in batches of other shapes: on average and at one token.
_MEAN_TOLERANCE, _LARGEST_TOLERANCE = 1e-4, 1e-2
# A spike is ten times the median of up to 50 values, of which there are at least 10.
_SPIKE, _WINDOW, _LEAST = 10.0, 50, 10
_HIGH_KL = 1.0  # nats per token


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
    if not (mean <= _MEAN_TOLERANCE and largest <= _LARGEST_TOLERANCE):
        raise AresError(
            f"The policy does not give the {what} their stored probabilities (|ratio - 1| is {mean:.2g} on average, "
            f"{largest:.2g} at most): it has dropout or is not the one that wrote them; {remedy}."
        )


class StepChecks:
    """Looks at the numbers of each optimizer step before it is taken: stops at NaN and infinity, warns of spikes.

    `remedy`: what a user can do about them, as a sentence.
    """

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy
        self._recent: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_WINDOW))
        self._warned: dict[str, int] = {}

    def finite(self, what: str, value: float, module: pl.LightningModule) -> None:
        """Raises AresError where a loss or gradient norm is not finite."""
        if not math.isfinite(value):
            raise AresError(
                f"The {what} became {value} at step {module.global_step} (epoch {module.current_epoch}); nothing was "
                f"changed by that step. {self.remedy}"
            )

    def divergence(self, value: float, module: pl.LightningModule) -> None:
        """Warns of a spike of the KL divergence from the reference, in nats per token."""
        self._spike("KL divergence from the reference", value, module, above=_HIGH_KL)

    def _spike(
        self, what: str, value: float, module: pl.LightningModule, *, above: float = 0.0, after: int = 0
    ) -> None:
        """Warns of a value over `above` and ten times what is usual, once in 50 steps; the first `after` are usual."""
        recent, step = self._recent[what], module.global_step
        usual = statistics.median(recent) if recent else 0.0
        high = len(recent) >= after and value > max(above, _SPIKE * usual)
        if high and step - self._warned.get(what, -_WINDOW) >= _WINDOW:
            self._warned[what] = step
            if is_first():
                text = f"the {what} is {value:.3g} at step {step}, and usually {usual:.3g}. {self.remedy}"
                print(f"warning: {text}", file=sys.stderr, flush=True)
        recent.append(value)

    def gradient(self, what: str, norm: float, module: pl.LightningModule) -> None:
        """Raises AresError for a norm that is not finite, and warns of a spike."""
        self.finite(what, norm, module)
        self._spike(f"norm of the {what}", norm, module, after=_LEAST)
