"""Losses of reward models, and the reward of a response."""

import math

import pytest
import torch

from ares.rl.reward_model import bradley_terry_loss, pooled_rewards, score_loss


def test_score_loss_is_the_cross_entropy_of_soft_targets() -> None:
    logits = torch.tensor([0.0, 2.0, -1.0], dtype=torch.float64)
    scores = torch.tensor([0.3, 1.0, 0.5], dtype=torch.float64)
    p = [1 / (1 + math.exp(-x)) for x in logits.tolist()]
    expected = [-s * math.log(q) - (1 - s) * math.log(1 - q) for q, s in zip(p, scores.tolist(), strict=True)]
    assert score_loss(logits, scores).tolist() == pytest.approx(expected, rel=1e-12)


def test_bradley_terry_loss_with_its_centering_term() -> None:
    chosen = torch.tensor([1.0, -0.5], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([0.25, 0.5], dtype=torch.float64)
    found = bradley_terry_loss(chosen, rejected, center=0.1)
    center = 0.1 * abs((1.25 + 0.0) / 2)
    expected = [math.log(1 + math.exp(-(c - r))) + center for c, r in [(1.0, 0.25), (-0.5, 0.5)]]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    found.mean().backward()
    slopes = [-1 / (1 + math.exp(c - r)) / 2 + 0.1 / 2 for c, r in [(1.0, 0.25), (-0.5, 0.5)]]
    assert chosen.grad is not None
    assert chosen.grad.tolist() == pytest.approx(slopes, rel=1e-12)


def test_no_pairs_have_no_loss() -> None:
    assert bradley_terry_loss(torch.zeros(0), torch.zeros(0), center=1.0).sum() == 0


def test_rewards_are_pooled_by_response() -> None:
    logits, rows = torch.tensor([1.0, 3.0, -2.0, 5.0, 7.0]), torch.tensor([0, 0, 1, 3, 3])
    assert pooled_rewards(logits, rows, 4, "mean").tolist() == [2.0, -2.0, 0.0, 6.0]
    assert pooled_rewards(logits, rows, 4, "last").tolist() == [3.0, -2.0, 0.0, 7.0]
    assert pooled_rewards(logits[:0], rows[:0], 2, "last").tolist() == [0.0, 0.0]
