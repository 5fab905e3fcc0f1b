"""Lengths in tokens as ScienceQA has them: of prompts, and of the rationales that a trained policy writes."""

import itertools
import math
import random
from collections.abc import Sequence

# (share of rows, length): between two of them the logarithm of the length grows linearly.
_RESPONSES = ((0.0, 9), (0.5, 45), (0.75, 70), (0.9, 147), (0.99, 325), (1.0, 512))  # mean 65
_PROMPTS = ((0.0, 32), (0.5, 60), (0.75, 90), (0.9, 135), (0.99, 276), (1.0, 512))  # mean 79


def response_lengths(count: int, *, seed: int = 0) -> list[int]:
    """Lengths of responses, EOS included: mean 65, median 45, p90 147, p99 325."""
    return _drawn(_RESPONSES, count, seed)


def prompt_lengths(count: int, *, seed: int = 0) -> list[int]:
    """Lengths of prompts: mean 79, median 60, p90 135, p99 276."""
    return _drawn(_PROMPTS, count, seed)


def _drawn(quantiles: Sequence[tuple[float, int]], count: int, seed: int) -> list[int]:
    """The distribution's quantiles at the middle of `count` equal parts, shuffled: few rows have its shape, too."""
    lengths = [_at(quantiles, (place + 0.5) / count) for place in range(count)]
    random.Random(seed).shuffle(lengths)
    return lengths


def _at(quantiles: Sequence[tuple[float, int]], share: float) -> int:
    for (low, short), (high, long) in itertools.pairwise(quantiles):
        if share <= high:
            return round(short * math.exp((share - low) / (high - low) * math.log(long / short)))
    raise ValueError(f"{share} is no share")
