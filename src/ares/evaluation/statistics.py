"""Confidence intervals of a share, and of the difference between two measurements of the same questions."""

import math
from collections.abc import Sequence

import numpy as np


def paired_bootstrap(
    before: Sequence[float], after: Sequence[float], *, n: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """The mean of after - before and the ends of its 95 % interval.

    Percentile bootstrap over questions (Efron 1979): `n` times as many differences as there are questions
    are drawn with replacement; the interval runs from the 2.5 % to the 97.5 % quantile of their means.
    `before[i]` and `after[i]` belong to question i. Raises ValueError for unequal lengths or no questions.
    """
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    if len(before) != len(after) or differences.size == 0:
        raise ValueError(f"needs pairs, got {len(before)} values before and {len(after)} after")
    random = np.random.default_rng(seed)
    # In blocks: all draws at once would take n x questions x 8 bytes.
    means = np.empty(n)
    block = max(1, 1_000_000 // differences.size)
    for start in range(0, n, block):
        size = min(block, n - start)
        drawn = random.integers(differences.size, size=(size, differences.size))
        means[start : start + size] = differences[drawn].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def share_interval(right: int, total: int) -> tuple[float, float]:
    """The ends, in [0, 1], of the 95 % interval of a share that was measured as `right` of `total` questions.

    Wilson's score interval (Wilson 1927). Raises ValueError unless 0 <= right <= total and total > 0.
    """
    if not 0 <= right <= total or total == 0:
        raise ValueError(f"needs 0 <= right <= total and total > 0, got {right} of {total}")
    z = 1.959964  # the 97.5 % quantile of the standard normal distribution
    share, weight = right / total, 1 + z**2 / total
    middle = (share + z**2 / (2 * total)) / weight
    half = z / weight * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def nested_bootstrap(groups: Sequence[np.ndarray], *, n: int = 4000, seed: int = 0) -> np.ndarray:
    """Means of M columns in `n` resamples of groups of questions, such as seeds: (n, M) from one (Q, M) array per group.

    Each resample draws as many groups as there are and, of each, as many questions, both with replacement (two-stage
    bootstrap, Davison and Hinkley 1997, section 3.8), so that intervals cover the spread between seeds and between
    questions. Columns stay paired. Raises ValueError without groups or with an empty one.
    """
    if not groups or any(len(group) == 0 for group in groups):
        raise ValueError("needs groups of one question or more")
    random = np.random.default_rng(seed)
    means = np.zeros((n, groups[0].shape[1]))
    for _ in groups:
        drawn = random.integers(len(groups), size=n)
        for number, group in enumerate(groups):
            rows = np.flatnonzero(drawn == number)
            size = len(group)
            counts = random.multinomial(size, np.full(size, 1 / size), size=len(rows))
            means[rows] += counts @ group / size / len(groups)
    return means
