"""PPO: generalized advantages against a value model (Schulman et al. 2017; ARES, section 3.2)."""

from typing import TYPE_CHECKING

from ares.rl.objectives.base import LossSettings, Objective, Rollouts, Targets

if TYPE_CHECKING:
    from torch import Tensor


def advantages(rollouts: Rollouts, values: "Tensor", settings: LossSettings) -> Targets:
    """Generalized advantages and their returns."""
    from ares.rl.advantages import gae

    return gae(rollouts.rewards, values, rollouts.mask, gamma=settings.gamma, lam=settings.lam)


OBJECTIVE = Objective(advantages, needs_value=True, whitened=True)
