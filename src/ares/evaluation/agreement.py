"""How well predicted scores agree with given ones: ranks, separation, calibration, and the order of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HeldOut:
    """A reward model on labels that it was not trained on.

    `scores` given and `predicted`, in [0, 1], of each sentence; `pairs`: the rewards of two rationales, the better one's
    first; `loss`: the sum over `labels` (nats).
    """

    scores: Sequence[float]
    predicted: Sequence[float]
    pairs: Sequence[Sequence[float]]
    loss: float
    labels: int


def agreement(parts: Sequence[HeldOut]) -> dict[str, float]:
    """How well predictions agree with labels; measures of labels that there are none of are left out.

    `auc` separates sentences that score at least 0.5 from the others.
    """
    scores = [score for part in parts for score in part.scores]
    predicted = [score for part in parts for score in part.predicted]
    pairs = [pair for part in parts for pair in part.pairs]
    labels = sum(part.labels for part in parts)
    found = {"log_likelihood": -sum(part.loss for part in parts) / max(1, labels)}
    if scores:
        found["spearman"] = spearman(scores, predicted)
        found["auc"] = auc([score >= 0.5 for score in scores], predicted)
        found["calibration_error"] = calibration_error(predicted, scores)
    if pairs:
        found["pair_accuracy"] = pair_accuracy(pairs)
    return found


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """The rank correlation of paired values, in [-1, 1], equal values sharing their mean rank; 0 where one side is constant.

    Raises ValueError for unequal lengths.
    """
    if len(a) != len(b):
        raise ValueError(f"needs pairs, got {len(a)} and {len(b)} values")
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean() if len(x) else x, y - y.mean() if len(y) else y
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / scale if scale else 0.0


def auc(positive: Sequence[bool], predicted: Sequence[float]) -> float:
    """The chance that a positive example is predicted higher than a negative one, ties counting half; 0.5 without both."""
    right = np.asarray(positive, dtype=bool)
    ones, zeros = int(right.sum()), int((~right).sum())
    if not ones or not zeros:
        return 0.5
    return float(_ranks(predicted)[right].sum() - ones * (ones + 1) / 2) / (ones * zeros)


def calibration(
    predicted: Sequence[float], observed: Sequence[float], *, bins: int = 10
) -> list[tuple[float, float, int]]:
    """(mean predicted, mean observed, count) of the predictions in each of `bins` equal parts of [0, 1] that has any."""
    guesses, scores = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    part = np.minimum((guesses * bins).astype(int), bins - 1)
    return [
        (float(guesses[part == n].mean()), float(scores[part == n].mean()), int((part == n).sum()))
        for n in np.unique(part)
    ]


def calibration_error(predicted: Sequence[float], observed: Sequence[float], *, bins: int = 10) -> float:
    """The mean distance between predicted and observed means of the bins, weighted by their counts; 0 without values."""
    found = calibration(predicted, observed, bins=bins)
    return sum(abs(a - b) * count for a, b, count in found) / max(1, len(predicted))


def pair_accuracy(pairs: Sequence[Sequence[float]]) -> float:
    """The share of pairs whose first reward is higher, ties counting half; 0.5 without pairs."""
    right = [0.5 if first == second else float(first > second) for first, second in pairs]
    return sum(right) / len(right) if right else 0.5


def _ranks(values: Sequence[float]) -> np.ndarray:
    """The rank of each value from 1, equal ones sharing their mean."""
    _, which, counts = np.unique(
        np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True
    )
    return (np.cumsum(counts) - (counts - 1) / 2)[which]
