"""Verdicts from replies in both orders."""

import pytest

from ares.evaluation.judge import combine, win_rates
from ares.teachers.parsing import FeedbackError

BAD = FeedbackError("no single winner in the reply")


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        ("first", "second", "a"),
        ("second", "first", "b"),
        ("first", "first", "tie"),  # the order decides
        ("second", "second", "tie"),
        ("tie", "tie", "tie"),
        ("first", "tie", "tie"),
        (BAD, "second", None),
        ("first", BAD, None),
    ],
)
def test_winner_must_win_in_both_orders(first, second, winner):
    verdict = combine("1", first, second, ["x", "y"])
    assert verdict.winner == winner
    assert verdict.request_hashes == ("x", "y")


def test_win_rates():
    verdicts = [
        combine("1", "first", "second"),
        combine("2", "first", "second"),
        combine("3", "second", "first"),
        combine("4", "first", "first"),
        combine("5", BAD, "first"),
    ]
    assert win_rates(verdicts) == {
        "a_wins": 0.5,
        "b_wins": 0.25,
        "ties": 0.25,
        "a_wins_without_ties": pytest.approx(2 / 3),
        "order_decides": 0.25,
        "quarantined": pytest.approx(0.2),
    }
    assert win_rates([])["a_wins"] == 0.0
    assert win_rates([combine("1", "tie", "tie")])["a_wins_without_ties"] == 0.5
