"""The interface of an objective. `ppo`, `rloo` and `grpo` are modules of this package; others have a dotted module name.

A module defines `OBJECTIVE = Objective(...)`; `rl.objective=<name>` then trains with it without any other change.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ares.types import AresError

# Commands are checked against an objective's requirements; torch is imported when one is computed.
if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rollouts:
    """N scored rationales of up to T tokens, right-padded.

    `rewards` (N, T) float32 on tokens (a sentence's reward on its last token); `mask` (N, T) 1.0 on response tokens;
    `trained` (N, T) the mask of training rows alone; `lengths`: tokens per row; `ends`: the index of the last token of
    each sentence per row; `groups`: the rows of each question.
    """

    rewards: Tensor
    mask: Tensor
    trained: Tensor
    lengths: Sequence[int]
    ends: Sequence[Sequence[int]]
    groups: Sequence[Sequence[int]]


# (advantages, returns), both (N, T) float32
Targets: TypeAlias = "tuple[Tensor, Tensor]"


class LossSettings(Protocol):
    """The settings that losses and advantages read (the `rl` block of the configuration)."""

    gamma: float
    lam: float
    whiten: bool
    clip_range: float
    value_clip_range: float | None
    vf_coef: float
    log_ratio_clamp: float | None


def clipped_loss(*tensors: Tensor, **settings: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """`ares.rl.losses.ppo_loss`."""
    from ares.rl.losses import ppo_loss

    return ppo_loss(*tensors, **settings)


@dataclass(frozen=True)
class Objective:
    """An objective of reinforcement learning.

    `advantages(rollouts, values, settings)` returns the targets of an epoch from the value model's `values` (N, T),
    which are 0 unless the objective `needs_value`; `min_samples`: the fewest rationales per question that it can
    compare; `loss`: called like `ppo_loss`, with the same returns.
    """

    advantages: Callable[[Rollouts, Tensor, LossSettings], Targets]
    needs_value: bool = False
    min_samples: int = 1
    loss: Callable[..., tuple[Tensor, dict[str, Tensor]]] = clipped_loss


def comparison(estimate: Callable[[Sequence[Tensor]], list[Tensor]]) -> Objective:
    """An objective without a value model that compares the sentences of a question's rationales.

    `estimate` as in `group_advantages`; returns are Monte-Carlo returns.
    """

    def advantages(rollouts: Rollouts, values: Tensor, settings: LossSettings) -> Targets:
        from ares.rl.advantages import group_advantages, monte_carlo_returns

        returns = monte_carlo_returns(rollouts.rewards, rollouts.mask, gamma=settings.gamma)
        found = group_advantages(
            estimate, rollouts.rewards.cpu(), rollouts.lengths, rollouts.ends, rollouts.groups
        )
        return found.to(returns.device), returns

    return Objective(advantages, min_samples=2)


def load_objective(name: str) -> Objective:
    """The objective of a module of this package, or of a dotted module name; raises AresError where there is none."""
    module = name if "." in name else f"ares.rl.objectives.{name}"
    try:
        found = importlib.import_module(module).OBJECTIVE
    except (ModuleNotFoundError, AttributeError):
        raise AresError(
            f"rl.objective={name}: there is no module {module} with an OBJECTIVE; write ppo, rloo, grpo or the dotted "
            "name of a module."
        ) from None
    assert isinstance(found, Objective)
    return found
