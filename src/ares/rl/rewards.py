"""Converts sentence scores into token rewards, and token rewards into sentence rewards."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
