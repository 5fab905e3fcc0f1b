"""Converts sentence scores into token rewards, and token rewards into sentence rewards."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class RewardTerms(Protocol):
    """The coefficients of the terms that belong to a response's last token (`rl.rewards` of the configuration)."""

    reward_model: float
    missing_eos: float
    length: float
    correct: float
    repetition: float


def sentence_rewards(
    scores: Sequence[float] | Tensor, ends: Sequence[int] | Tensor, length: int, *, neutral: float = 0.5
) -> Tensor:
    """score − neutral at the last token of each sentence, 0 elsewhere: (length,) float32.

    `scores` (n,) in [0, 1], `ends` (n,) the index of each sentence's last token (ARES, sentence-level feedback).
    Scores at the same token add up. Raises ValueError if the numbers of scores and ends differ or an end lies
    outside [0, length).
    """
    values = torch.as_tensor(scores, dtype=torch.float32).reshape(-1) - neutral
    index = torch.as_tensor(ends, dtype=torch.int64).reshape(-1)
    if len(values) != len(index):
        raise ValueError(f"There are {len(values)} scores for {len(index)} sentences.")
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < length:
        raise ValueError(
            f"The sentence ends {index.tolist()} do not all lie in a response of {length} tokens."
        )
    return torch.zeros(length).index_add_(0, index, values)


def sentence_sums(token_rewards: Tensor, ends: Sequence[int]) -> Tensor:
    """Sums token rewards (T,) by sentence: (n,), from the index of each sentence's last token.

    Tokens after the last end (EOS) belong to the last sentence.
    """
    owners = sentence_of_tokens(ends, len(token_rewards)).to(token_rewards.device)
    return token_rewards.new_zeros(len(ends)).index_add_(0, owners, token_rewards)


def sentence_of_tokens(ends: Sequence[int], length: int) -> Tensor:
    """Returns the index of the sentence that each of `length` tokens belongs to: (length,) int64.

    `ends` (n > 0) increases; tokens after the last end (EOS) belong to the last sentence.
    """
    owners = torch.searchsorted(torch.as_tensor(ends), torch.arange(length))
    return owners.clamp(max=len(ends) - 1)


def response_rewards(
    coefficients: RewardTerms,
    *,
    truncated: Sequence[bool],
    lengths: Sequence[int],
    limit: int,
    repetition: Sequence[float],
    correct: Callable[[], Sequence[bool]],
    learned: Callable[[], Sequence[float]],
) -> dict[str, list[float]]:
    """The reward at the last token of each of N responses, by the name of the term; those with coefficient 0 are left out.

    R = reward_model · `learned` − missing_eos · `truncated` − length · `lengths` / `limit` + correct · `correct`
    − repetition · `repetition` (after Sun et al. 2023, LLaVA-RLHF). `repetition`: shares of repeated sentences.
    """
    terms: dict[str, tuple[float, Callable[[], Sequence[float]]]] = {
        "reward_model": (coefficients.reward_model, learned),
        "missing_eos": (-coefficients.missing_eos, lambda: truncated),
        "length": (-coefficients.length, lambda: [length / limit for length in lengths]),
        "correct": (coefficients.correct, correct),
        "repetition": (-coefficients.repetition, lambda: repetition),
    }
    return {
        name: [weight * float(value) for value in values()]
        for name, (weight, values) in terms.items()
        if weight
    }
