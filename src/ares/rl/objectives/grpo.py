"""GRPO per sentence: rewards normalized over the rationales of a question (Shao et al. 2024, process supervision)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ares.rl.objectives.base import comparison

if TYPE_CHECKING:
    from torch import Tensor


def estimate(rewards: "Sequence[Tensor]") -> "list[Tensor]":
    """`ares.rl.advantages.grpo_advantages`."""
    from ares.rl.advantages import grpo_advantages

    return grpo_advantages(rewards)


OBJECTIVE = comparison(estimate)
