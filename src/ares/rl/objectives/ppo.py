"""PPO: generalized advantages against a value model (Schulman et al. 2017; ARES, section 3.2)."""

from typing import TYPE_CHECKING

from ares.rl.objectives.base import LossSettings, Objective, Rollouts, Targets

if TYPE_CHECKING:
    from torch import Tensor


def advantages(rollouts: Rollouts, values: "Tensor", settings: LossSettings) -> Targets:
    """GAE; whitened, if so configured, over the real tokens of all training rows (0 on held-out rows then)."""
    from ares.rl.advantages import gae
    from ares.rl.masked import masked_whiten

    found, returns = gae(rollouts.rewards, values, rollouts.mask, gamma=settings.gamma, lam=settings.lam)
    # Every rank holds all rows, so that the sums over ranks change nothing.
    return masked_whiten(found, rollouts.trained) if settings.whiten else found, returns


OBJECTIVE = Objective(advantages, needs_value=True)
