"""RLOO per sentence: each sentence against the other rationales of its question (Ahmadian et al. 2024)."""

from torch import Tensor

from ares.rl.advantages import group_advantages, monte_carlo_returns, rloo_advantages
from ares.rl.objectives.base import LossSettings, Objective, Rollouts, Targets


def advantages(rollouts: Rollouts, values: Tensor, settings: LossSettings) -> Targets:
    """Leave-one-out advantages (`rloo_advantages`) on all tokens of a sentence; Monte-Carlo returns."""
    returns = monte_carlo_returns(rollouts.rewards, rollouts.mask, gamma=settings.gamma)
    found = group_advantages(
        rloo_advantages, rollouts.rewards.cpu(), rollouts.lengths, rollouts.ends, rollouts.groups
    )
    return found.to(returns.device), returns


OBJECTIVE = Objective(advantages, min_samples=2)
