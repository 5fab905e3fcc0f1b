"""PPO: generalized advantages against a value model (Schulman et al. 2017; ARES, section 3.2)."""

from torch import Tensor

from ares.rl.advantages import gae
from ares.rl.objectives.base import LossSettings, Objective, Rollouts, Targets


def advantages(rollouts: Rollouts, values: Tensor, settings: LossSettings) -> Targets:
    """Generalized advantages and their returns."""
    return gae(rollouts.rewards, values, rollouts.mask, gamma=settings.gamma, lam=settings.lam)


OBJECTIVE = Objective(advantages, needs_value=True, whitened=True)
