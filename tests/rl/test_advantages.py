import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.rl.advantages import (
    gae,
    group_advantages,
    grpo_advantages,
    monte_carlo_returns,
    rewards_to_go,
    rloo_advantages,
    spread_over_tokens,
)
from ares.rl.masked import masked_whiten
from ares.rl.rewards import sentence_rewards


def case(seed: int, rows: int = 4, longest: int = 9):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (rows,), generator=generator)
    mask = (torch.arange(longest) < lengths[:, None]).float()
    rewards, values = torch.randn(2, rows, longest, generator=generator).unbind()
    return rewards, values, mask, lengths.tolist()


def by_definition(rewards, values, length, gamma, lam):
    """Σ_l (γλ)^l δ_{t+l}, each term written out: O(T²)."""
    r, v = rewards[:length].double(), [*values[:length].double(), 0.0]
    deltas = [r[t] + gamma * v[t + 1] - v[t] for t in range(length)]
    return [sum((gamma * lam) ** (u - t) * deltas[u] for u in range(t, length)) for t in range(length)]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 0.99, 0.5, 0.0]), st.sampled_from([1.0, 0.95, 0.0]))
def test_gae_equals_its_definition_without_padding(seed, gamma, lam):
    rewards, values, mask, lengths = case(seed)
    garbage = float("nan")
    advantages, returns = gae(
        rewards.masked_fill(mask == 0, garbage),
        values.masked_fill(mask == 0, garbage),
        mask,
        gamma=gamma,
        lam=lam,
    )
    assert advantages.dtype == returns.dtype == torch.float32
    assert not advantages[mask == 0].any()
    assert not returns[mask == 0].any()
    for row, length in enumerate(lengths):
        expected = torch.tensor(by_definition(rewards[row], values[row], length, gamma, lam))
        torch.testing.assert_close(advantages[row, :length].double(), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(returns[row, :length], advantages[row, :length] + values[row, :length])


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_gae_limits_of_lambda(seed):
    rewards, values, mask, _ = case(seed)
    rewards, values = rewards * mask, values * mask
    following = torch.cat([values[:, 1:], torch.zeros(len(values), 1)], 1)
    one_step, _ = gae(rewards, values, mask, gamma=0.9, lam=0.0)
    torch.testing.assert_close(one_step, rewards + 0.9 * following - values)
    _, returns = gae(rewards, values, mask, gamma=0.9, lam=1.0)
    torch.testing.assert_close(returns, monte_carlo_returns(rewards, mask, gamma=0.9), atol=1e-5, rtol=1e-5)


def test_undiscounted_monte_carlo_returns_are_sums_of_future_rewards():
    rewards = torch.tensor([[1.0, 2.0, 4.0, 100.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    assert monte_carlo_returns(rewards, mask, gamma=1.0).tolist() == [[7.0, 6.0, 4.0, 0.0]]
    assert monte_carlo_returns(rewards, mask, gamma=0.5).tolist() == [[3.0, 4.0, 4.0, 0.0]]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 2))
def test_score_changes_no_advantage_after_its_sentence(seed, sentence):
    _, values, mask, _ = case(seed, rows=1, longest=12)
    mask[:] = 1
    ends = [2, 6, 10]
    scores = [0.2, 0.7, 0.4]
    found = []
    for value in (0.0, 1.0):
        scores[sentence] = value
        rewards = sentence_rewards(scores, ends, 12)[None]
        found.append(gae(rewards, values, mask, gamma=1.0, lam=0.95)[0][0])
    end = ends[sentence]
    assert torch.equal(found[0][end + 1 :], found[1][end + 1 :])
    assert (found[0][: end + 1] != found[1][: end + 1]).all()


def test_advantages_and_returns_equal_the_recording(shared):
    meta = json.loads((shared / "golden/ppo_meta.json").read_text())
    with np.load(shared / "golden/ppo.npz") as golden:
        for entry in meta["gae"]:
            values, rewards, adv, returns = (
                torch.from_numpy(golden[f"gae/{entry['i']}/{name}"])
                for name in ("values", "rewards", "adv", "returns")
            )
            mask = (torch.arange(entry["T"]) < torch.tensor(entry["lens"])[:, None]).float()
            ours = gae(rewards, values, mask, gamma=entry["gamma"], lam=entry["lam"])
            torch.testing.assert_close(ours[0], adv * mask, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(ours[1], returns * mask, atol=1e-5, rtol=1e-5)


def test_whitening_excludes_padding_unlike_the_original(shared):
    """The original whitened over the zeros after the rows: its real tokens have neither mean 0 nor variance 1."""
    meta = json.loads((shared / "golden/ppo_meta.json").read_text())
    ragged = [e for e in meta["gae"] if len(set(e["lens"])) > 1]
    assert ragged
    with np.load(shared / "golden/ppo.npz") as golden:
        for entry in ragged:
            mask = (torch.arange(entry["T"]) < torch.tensor(entry["lens"])[:, None]).float()
            theirs = torch.from_numpy(golden[f"gae/{entry['i']}/adv_whitened"])
            real = torch.from_numpy(golden[f"gae/{entry['i']}/adv"])
            ours = masked_whiten(real, mask)
            assert theirs[mask.bool()].std(correction=0) > 1.02
            assert ours[mask.bool()].mean().abs() < 1e-5
            assert ours[mask.bool()].std(correction=0).item() == pytest.approx(1, abs=1e-4)
            # Over a mask of ones it is the original's, save that the population variance divides by n.
            n = real.numel()
            same = masked_whiten(real, torch.ones_like(real)) * ((n - 1) / n) ** 0.5
            torch.testing.assert_close(same, theirs, atol=1e-5, rtol=1e-4)


def t(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_rewards_to_go():
    assert rewards_to_go(t(1, 2, 4)).tolist() == [7, 6, 4]


def test_rloo_equals_a_hand_computed_case():
    # G = (3, 2), (1), (0, -1, -2): the second's only and the third's last entry stand in where they are shorter.
    found = rloo_advantages([t(1, 2), t(1), t(1, 1, -2)])
    assert found[0].tolist() == pytest.approx([3 - (1 + 0) / 2, 2 - (1 - 1) / 2])
    assert found[1].tolist() == pytest.approx([1 - (3 + 0) / 2])
    assert found[2].tolist() == pytest.approx([0 - (3 + 1) / 2, -1 - (2 + 1) / 2, -2 - (2 + 1) / 2])


def test_grpo_equals_a_hand_computed_case():
    # all rewards 1 1 1 -3: mean 0, population std √3
    found = grpo_advantages([t(1, 1), t(1, -3)])
    assert found[0].tolist() == pytest.approx([2 / 3**0.5, 1 / 3**0.5])
    assert found[1].tolist() == pytest.approx([-2 / 3**0.5, -3 / 3**0.5])


@pytest.mark.parametrize("estimate", [rloo_advantages, grpo_advantages])
def test_single_rationale_has_zero_advantage(estimate):
    assert estimate([t(0.3, -0.2)])[0].tolist() == [0, 0]
    assert estimate([]) == []


def test_equal_rewards_give_zero_advantage_despite_rounding():
    found = grpo_advantages([torch.full((7,), 0.1), torch.full((6,), 0.1)])
    assert not torch.cat(found).any()
    assert not torch.cat(rloo_advantages([t(0.1, 0.2), t(0.1, 0.2)])).any()


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3), min_size=2, max_size=5))
def test_rloo_advantages_of_equal_lengths_sum_to_zero(rewards):
    found = torch.stack(rloo_advantages([t(*row) for row in rewards]))
    assert found.sum(0).abs().max() < 1e-9


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=4), min_size=2, max_size=5),
    st.floats(0.5, 4),
    st.floats(-2, 2),
)
def test_grpo_is_invariant_to_scale_and_shift(rewards, scale, shift):
    flat = torch.tensor([x for row in rewards for x in row])
    if flat.std(correction=0) < 1e-3:
        return
    found = grpo_advantages([t(*row) for row in rewards])
    again = grpo_advantages([t(*row) * scale + shift for row in rewards])
    torch.testing.assert_close(torch.cat(found), torch.cat(again), atol=1e-6, rtol=1e-6)


def test_tokens_get_the_advantage_of_their_sentence():
    assert spread_over_tokens(t(5, 7), [1, 3], 6).tolist() == [5, 5, 7, 7, 7, 7]


@pytest.mark.parametrize("estimate", [rloo_advantages, grpo_advantages])
def test_rationales_are_compared_within_their_question(estimate):
    lengths, ends = [4, 3, 5], [[1, 2], [1], [0, 3]]
    scores = [[0.9, 0.1], [0.4], [0.5, 0.8]]
    rewards = torch.zeros(3, 5)
    for row, (score, end, length) in enumerate(zip(scores, ends, lengths, strict=True)):
        rewards[row, :length] = sentence_rewards(score, end, length)
    found = group_advantages(estimate, rewards, lengths, ends, [[0, 2], [1]])
    a, c = estimate([torch.tensor([0.4, -0.4]), torch.tensor([0.0, 0.3])])
    torch.testing.assert_close(found[0], torch.tensor([a[0], a[0], a[1], a[1], 0.0]))
    torch.testing.assert_close(found[2], torch.tensor([c[0], c[1], c[1], c[1], c[1]]))
    assert not found[1].any()
