"""Rules of selection on hand-written candidates, with the results worked out by hand."""

from collections.abc import Mapping, Sequence

import pytest

from ares.evaluation.selection import (
    Groups,
    accuracy_of,
    best_scored,
    first,
    majority,
    oracle,
    self_select,
)
from ares.storage.solutions import Solution


def rows(answers: str, pid: str = "1") -> list[Solution]:
    """Candidates with these answers, one letter each; A is right, - is unreadable."""
    return [
        Solution(0, 0, pid, sample, f"Text {sample}.", None if answer == "-" else answer, answer == "A", 10)
        for sample, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("answers", "chosen"), [("ABB", 1), ("ABAB", 0), ("BAAB", 0), ("-AB", 1), ("---B", 3), ("--", 0)]
)
def test_majority_takes_the_most_frequent_answer_that_came_first(answers: str, chosen: int) -> None:
    assert majority(rows(answers)).sample == chosen


def test_first_takes_what_one_sample_gives_and_oracle_any_right_one() -> None:
    assert first(rows("-A")).sample == 0
    assert oracle(rows("BBA")).sample == 2
    assert oracle(rows("BB")).sample == 0


def test_best_scored_by_mean_or_lowest_sentence() -> None:
    own = rows("BAC-")
    scores = {"0/0/1/0": (1.0, 0.0), "0/0/1/1": (0.4, 0.4), "0/0/1/2": None, "0/0/1/3": (1.0,)}
    assert best_scored(own, scores).sample == 0
    assert best_scored(own, scores, "min").sample == 1
    assert best_scored(own, {}).sample == 0


class Asked:
    """Answers with the given letters in turn, and records the groups that it was shown."""

    def __init__(self, replies: Sequence[str | None]) -> None:
        self.replies, self.shown = list(replies), list[str]()

    def __call__(self, groups: Groups) -> Mapping[str, tuple[str | None, int]]:
        self.shown += ["".join(str(row.sample) for row in own) for own in groups.values()]
        return {pid: (self.replies.pop(0), 3) for pid in groups}


def test_self_select_shows_the_chosen_one_with_the_next_two() -> None:
    ask = Asked(["B", "C", "A"])
    chosen = self_select({"1": rows("ABCABC")}, ask)["1"]
    assert ask.shown == ["012", "134", "15"]
    # 0, 1, 2 -> B (1); 1, 3 (A), 4 (B): asked, C is none of them, so 1 stays; 1, 5 (C): asked, A is none of them.
    assert (chosen.solution.sample, chosen.tokens, chosen.failed) == (1, 9, 2)


def test_self_select_asks_nothing_where_answers_agree() -> None:
    ask = Asked([])
    chosen = self_select({"1": rows("-AA"), "2": rows("B", "2"), "3": rows("--", "3")}, ask)
    assert ask.shown == []
    assert [choice.solution.sample for choice in chosen.values()] == [1, 0, 0]


def test_self_select_takes_the_candidate_whose_answer_is_named() -> None:
    chosen = self_select({"1": rows("BA"), "2": rows("AB", "2")}, Asked(["A", None]))
    assert chosen["1"].solution.correct
    assert chosen["1"].failed == 0
    assert (chosen["2"].solution.sample, chosen["2"].failed) == (0, 1)


def test_accuracy_with_interval_and_tokens() -> None:
    found = accuracy_of("first", 1, [True, True, True, False], [1, 2, 3, 4])
    assert (found.accuracy, found.tokens, found.questions) == (75.0, 2.5, 4)
    assert found.low < 75 < found.high <= 100
