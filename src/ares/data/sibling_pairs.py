"""Pairs of sibling rollouts by the Teacher's scores: which of them say something about which sentences are better."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ares.types import Rollout

Scores = Mapping[str, Sequence[float]]  # by row_id, one per sentence


@dataclass(frozen=True)
class Compared:
    """Two rollouts of a question and the difference of their scores, which is never negative."""

    chosen: Rollout
    rejected: Rollout
    difference: float


def worth(scores: Sequence[float], by: str) -> float:
    """The mean or, with `by="total"`, the sum of sentence scores; 0 without any."""
    return sum(scores) / (1 if by == "total" else max(1, len(scores)))


def best_and_worst(rows: Sequence[Rollout], scores: Scores, by: str) -> Iterator[Compared]:
    """The best and the worst rollout of a question; of equals the first."""
    if len(rows) > 1:
        values = [worth(scores[row.row_id], by) for row in rows]
        best, worst = values.index(max(values)), values.index(min(values))
        yield Compared(rows[best], rows[worst], values[best] - values[worst])


def all_pairs(rows: Sequence[Rollout], scores: Scores, by: str) -> Iterator[Compared]:
    """Every two rollouts of a question, the better one chosen."""
    for a, b in combinations(rows, 2):
        yield _compared(a, b, worth(scores[a.row_id], by), worth(scores[b.row_id], by))


def same_prefix(rows: Sequence[Rollout], scores: Scores, by: str) -> Iterator[Compared]:
    """Every two rollouts that begin with the same sentences and differ from one on, compared by what follows these."""
    for a, b in combinations(rows, 2):
        shared = _shared_sentences(a, b)
        if 0 < shared < min(len(a.spans), len(b.spans)):
            rest = (worth(scores[row.row_id][shared:], by) for row in (a, b))
            yield _compared(a, b, *rest)


def _compared(a: Rollout, b: Rollout, of_a: float, of_b: float) -> Compared:
    return Compared(a, b, of_a - of_b) if of_a >= of_b else Compared(b, a, of_b - of_a)


def _shared_sentences(a: Rollout, b: Rollout) -> int:
    """How many sentences two rollouts begin with in common, token by token."""
    count = 0
    for end, other in zip(a.token_ends, b.token_ends, strict=False):
        if end != other or a.token_ids[: end + 1] != b.token_ids[: end + 1]:
            break
        count += 1
    return count


WAYS = {"best_worst": best_and_worst, "all": all_pairs, "same_prefix": same_prefix}
