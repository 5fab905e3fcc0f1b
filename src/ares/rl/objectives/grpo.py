"""GRPO per sentence: rewards normalized over the rationales of a question (Shao et al. 2024, process supervision)."""

from torch import Tensor

from ares.rl.advantages import group_advantages, grpo_advantages, monte_carlo_returns
from ares.rl.objectives.base import LossSettings, Objective, Rollouts, Targets


def advantages(rollouts: Rollouts, values: Tensor, settings: LossSettings) -> Targets:
    """Group-normalized advantages (`grpo_advantages`) on all tokens of a sentence; Monte-Carlo returns."""
    returns = monte_carlo_returns(rollouts.rewards, rollouts.mask, gamma=settings.gamma)
    found = group_advantages(
        grpo_advantages, rollouts.rewards.cpu(), rollouts.lengths, rollouts.ends, rollouts.groups
    )
    return found.to(returns.device), returns


OBJECTIVE = Objective(advantages, min_samples=2)
