"""Objectives are found by name, and say what they need."""

import pytest
import torch

from ares.rl.advantages import gae, monte_carlo_returns
from ares.rl.objectives import Rollouts, load_objective
from ares.types import AresError
from tests.support.ppo import RL


def rollouts() -> Rollouts:
    """Two rationales of one question and one of another."""
    generator = torch.Generator().manual_seed(0)
    lengths, ends = [4, 3, 5], [[1, 2], [1], [0, 3]]
    mask = (torch.arange(5) < torch.tensor(lengths)[:, None]).float()
    rewards = torch.zeros(3, 5)
    for row, tokens in enumerate(ends):
        rewards[row, tokens] = torch.rand(len(tokens), generator=generator) - 0.5
    return Rollouts(rewards, mask, lengths, ends, [[0, 2], [1]])


def test_ppo_needs_a_value_model_and_is_whitened() -> None:
    objective, block = load_objective("ppo"), rollouts()
    assert objective.needs_value
    assert objective.whitened
    values = 0.1 * torch.ones(3, 5) * block.mask
    found = objective.advantages(block, values, RL)
    expected = gae(block.rewards, values, block.mask, gamma=RL.gamma, lam=RL.lam)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["rloo", "grpo"])
def test_comparisons_need_two_rationales_and_no_value_model(name: str) -> None:
    objective, buffer = load_objective(name), rollouts()
    assert not objective.needs_value
    assert not objective.whitened
    assert objective.min_samples == 2
    found, returns = objective.advantages(buffer, torch.zeros(3, 5), RL)
    torch.testing.assert_close(returns, monte_carlo_returns(buffer.rewards, buffer.mask, gamma=RL.gamma))
    assert found[0].any()
    assert not found[1].any()  # nothing to compare with
    assert not found[buffer.mask == 0].any()


@pytest.mark.parametrize("name", ["best_of_n", "ares.rl.kl", "no.such.module"])
def test_an_unknown_objective_is_refused(name: str) -> None:
    with pytest.raises(AresError, match=f"rl.objective={name}: there is no module"):
        load_objective(name)
