"""RLOO per sentence: each sentence against the other rationales of its question (Ahmadian et al. 2024)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ares.rl.objectives.base import comparison

if TYPE_CHECKING:
    from torch import Tensor


def estimate(rewards: "Sequence[Tensor]") -> "list[Tensor]":
    """`ares.rl.advantages.rloo_advantages`."""
    from ares.rl.advantages import rloo_advantages

    return rloo_advantages(rewards)


OBJECTIVE = comparison(estimate)
