"""Objectives are found by name, and say what they need."""

import pytest
import torch

from ares.rl.advantages import gae, monte_carlo_returns
from ares.rl.objectives import Rollouts, load_objective
from ares.types import AresError
from tests.support.ppo import RL


def rollouts() -> Rollouts:
    """Two rationales of one question and one of another, which is held out."""
    generator = torch.Generator().manual_seed(0)
    lengths, ends = [4, 3, 5], [[1, 2], [1], [0, 3]]
    mask = (torch.arange(5) < torch.tensor(lengths)[:, None]).float()
    rewards = torch.zeros(3, 5)
    for row, tokens in enumerate(ends):
        rewards[row, tokens] = torch.rand(len(tokens), generator=generator) - 0.5
    trained = mask * torch.tensor([[1.0], [0.0], [1.0]])
    return Rollouts(rewards, mask, trained, lengths, ends, [[0, 2], [1]])


def test_ppo_needs_a_value_model_and_whitens_over_training_rows() -> None:
    objective, buffer = load_objective("ppo"), rollouts()
    assert objective.needs_value
    values = 0.1 * torch.ones(3, 5) * buffer.mask
    found, returns = objective.advantages(buffer, values, RL)
    plain, expected = gae(buffer.rewards, values, buffer.mask, gamma=RL.gamma, lam=RL.lam)
    torch.testing.assert_close(returns, expected)
    real = buffer.trained.bool()
    torch.testing.assert_close(
        found[real], (plain[real] - plain[real].mean()) / plain[real].std(correction=0), atol=1e-5, rtol=1e-5
    )
    assert not found[~real].any()


@pytest.mark.parametrize("name", ["rloo", "grpo"])
def test_comparisons_need_two_rationales_and_no_value_model(name: str) -> None:
    objective, buffer = load_objective(name), rollouts()
    assert not objective.needs_value
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
