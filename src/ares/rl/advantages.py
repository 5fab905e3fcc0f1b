"""Advantages: generalized estimation with a value model, and two that compare the rationales of a question."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ares.rl.rewards import sentence_of_tokens, sentence_sums


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation: `(advantages, returns)`, (B, T) float32, 0 on padding.

    `rewards`, `values`, `mask` (B, T), right-padded; nothing follows the last real token. With
    δ_t = r_t + γ V_{t+1} − V_t: A_t = Σ_l (γλ)^l δ_{t+l} and return_t = A_t + V_t.
    Source: Schulman et al. 2016, "High-Dimensional Continuous Control Using GAE", equations 11 and 16.
    """
    padding = mask == 0
    rewards = rewards.float().masked_fill(padding, 0)
    values = values.float().masked_fill(padding, 0)
    advantages = torch.zeros_like(values)
    following_value = following_advantage = values.new_zeros(len(values))
    # On padding everything is 0, so the last real token of every row is followed by zeros.
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * following_value - values[:, t]
        following_advantage = delta + gamma * lam * following_advantage
        advantages[:, t] = following_advantage
        following_value = values[:, t]
    return advantages, advantages + values


def monte_carlo_returns(rewards: Tensor, mask: Tensor, *, gamma: float) -> Tensor:
    """Σ_l γ^l r_{t+l} up to the last real token: (B, T) float32, 0 on padding, from (B, T) rewards and mask."""
    return gae(rewards, torch.zeros_like(rewards), mask, gamma=gamma, lam=1.0)[1]


def rewards_to_go(rewards: Tensor) -> Tensor:
    """Sums the rewards from each sentence on: (n,) to (n,)."""
    return rewards.flip(0).cumsum(0).flip(0)


def rloo_advantages(rewards: Sequence[Tensor]) -> list[Tensor]:
    """Leave-one-out advantages of the sentences of a question's k rationales, shaped like `rewards`.

    `rewards`: one (n_i,) float tensor, n_i > 0, of sentence rewards per rationale. With G_ij the reward-to-go,
    A_ij = G_ij − mean over the other rationales i' of G_{i', min(j, n_i')}; all 0 for a single rationale.
    After Ahmadian et al. 2024, "Back to Basics", section 3.2, carried over to sentences.
    """
    if len(rewards) < 2:
        return [torch.zeros_like(r) for r in rewards]
    longest = max(len(r) for r in rewards)
    rows = []
    for reward in rewards:
        togo = rewards_to_go(reward)
        rows.append(torch.cat([togo, togo[-1:].expand(longest - len(togo))]))
    table = torch.stack(rows)
    baselines = (table.sum(0) - table) / (len(rewards) - 1)
    return [(table - baselines)[i, : len(r)] for i, r in enumerate(rewards)]


def grpo_advantages(rewards: Sequence[Tensor]) -> list[Tensor]:
    """Group-normalized advantages of the sentences of a question's k rationales, shaped like `rewards`.

    `rewards`: one (n_i,) float tensor of sentence rewards per rationale. r̃ = (r − mean)/std over all sentence
    rewards of the group (population std; 0 where all are equal), A = Σ r̃ from that sentence on; all 0 for a
    single rationale. Source: Shao et al. 2024, "DeepSeekMath", section 4.1.3 (process supervision).
    """
    everything = torch.cat(list(rewards)) if rewards else torch.zeros(0)
    # Compared exactly: rounding gives equal rewards a tiny nonzero standard deviation.
    if len(rewards) < 2 or bool((everything == everything[0]).all()):
        return [torch.zeros_like(r) for r in rewards]
    mean, std = everything.mean(), everything.std(correction=0)
    return [rewards_to_go((r - mean) / std) for r in rewards]


def spread_over_tokens(advantages: Tensor, ends: Sequence[int], length: int) -> Tensor:
    """Repeats the advantage (n,) of each sentence for all its tokens, EOS with the last sentence: (length,)."""
    return advantages[sentence_of_tokens(ends, length).to(advantages.device)]


def group_advantages(
    estimate: Callable[[Sequence[Tensor]], list[Tensor]],
    rewards: Tensor,
    lengths: Sequence[int],
    ends: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
) -> Tensor:
    """The advantages of all tokens of N rationales by a comparison of their sentences: (N, T), 0 on padding.

    `estimate`: `rloo_advantages` or another function of a question's sentence rewards; `rewards` (N, T) of tokens;
    `lengths` and sentence `ends` by row; `groups`: the rows of each question.
    """
    advantages = torch.zeros_like(rewards)
    for rows in groups:
        found = estimate([sentence_sums(rewards[row, : lengths[row]], ends[row]) for row in rows])
        for row, values in zip(rows, found, strict=True):
            advantages[row, : lengths[row]] = spread_over_tokens(values, ends[row], lengths[row])
    return advantages
