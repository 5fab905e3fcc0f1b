"""Which rollouts of a question are compared, and by what."""

import pytest

from ares.data.sibling_pairs import WAYS, worth
from ares.types import Rollout, Span


def rollout(sample: int, *sentences: tuple[int, ...]) -> Rollout:
    """A rollout whose sentences are given by their token ids."""
    ids = [token for sentence in sentences for token in sentence]
    ends = [sum(map(len, sentences[: number + 1])) - 1 for number in range(len(sentences))]
    spans = tuple(Span(number, number + 1) for number in range(len(sentences)))
    zeros = (0.0,) * len(ids)
    return Rollout(
        f"q/{sample}", "q", sample, "x" * len(spans), tuple(ids), False, spans, tuple(ends), zeros, zeros
    )


ROWS = [
    rollout(0, (5, 6), (7, 8), (9,)),
    rollout(1, (5, 6), (7, 3), (4,)),
    rollout(2, (5, 6)),
    rollout(3, (6,), (5, 7, 8)),
]
SCORES = {"q/0": (1.0, 0.5, 0.0), "q/1": (0.5, 1.0, 1.0), "q/2": (0.9,), "q/3": (0.0, 0.5)}


def compared(way: str, by: str) -> dict[tuple[int, int], float]:
    found = WAYS[way](ROWS, SCORES, by)
    return {(pair.chosen.sample, pair.rejected.sample): pytest.approx(pair.difference) for pair in found}


def test_worth_is_the_mean_or_the_total() -> None:
    assert worth((1.0, 0.5, 0.0), "mean") == 0.5
    assert worth((1.0, 0.5, 0.0), "total") == 1.5
    assert worth((), "mean") == 0


def test_best_and_worst_of_a_question() -> None:
    assert compared("best_worst", "mean") == {(2, 3): 0.65}
    assert compared("best_worst", "total") == {(1, 3): 2.0}
    assert list(WAYS["best_worst"](ROWS[:1], SCORES, "mean")) == []


def test_all_pairs_have_the_better_rollout_chosen() -> None:
    found = compared("all", "total")
    assert found == {(1, 0): 1.0, (0, 2): 0.6, (0, 3): 1.0, (1, 2): 1.6, (1, 3): 2.0, (2, 3): 0.4}


def test_same_prefix_compares_what_follows_the_shared_sentences() -> None:
    # 0 and 1 share their first sentence; 2 ends with it; 3 begins with another.
    assert compared("same_prefix", "mean") == {(1, 0): 0.75}
    assert compared("same_prefix", "total") == {(1, 0): 1.5}
