"""Compares two sets of rationales by a Teacher's verdicts on each pair in both orders."""

from collections.abc import Sequence

from ares.teachers.parsing import FeedbackError, Winner
from ares.types import Verdict

_SHOWN_A_FIRST = {"first": "a", "second": "b", "tie": "tie"}
_SHOWN_B_FIRST = {"first": "b", "second": "a", "tie": "tie"}


def combine(
    pid: str,
    first: Winner | FeedbackError,
    second: Winner | FeedbackError,
    request_hashes: Sequence[str] = (),
) -> Verdict:
    """The verdict on a question from the replies with a shown first, and with b shown first.

    A side wins if it does so in both orders; where the order decides it is a tie (Zheng et al., NeurIPS 2023,
    section 3.4). Without two usable replies there is no winner.
    """
    orders = [
        "quarantined" if isinstance(reply, FeedbackError) else names[reply]
        for reply, names in ((first, _SHOWN_A_FIRST), (second, _SHOWN_B_FIRST))
    ]
    winner = None if "quarantined" in orders else orders[0] if orders[0] == orders[1] else "tie"
    return Verdict(pid, winner, orders[0], orders[1], tuple(request_hashes))


def win_rates(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Shares in [0, 1] of wins of a and of b and of ties among the decided; of a's wins where one side wins (0.5 if
    none does); of questions whose winner depends on the order; and of all questions those without a verdict."""
    decided = [verdict for verdict in verdicts if verdict.winner is not None]
    count = max(1, len(decided))
    wins, losses = (sum(verdict.winner == name for verdict in decided) for name in ("a", "b"))
    swayed = sum(verdict.first_order != verdict.second_order for verdict in decided)
    return {
        "a_wins": wins / count,
        "b_wins": losses / count,
        "ties": sum(verdict.winner == "tie" for verdict in decided) / count,
        "a_wins_without_ties": wins / (wins + losses) if wins + losses else 0.5,
        "order_decides": swayed / count,
        "quarantined": 1 - len(decided) / len(verdicts) if verdicts else 0.0,
    }
