"""Which pairs of scored rollouts stage=pairs writes, and which it leaves out."""

from pathlib import Path

import pytest

from ares.steps.common.contract import StepContext
from ares.steps.pairs import _of_rollouts
from ares.storage.tables import write_feedback, write_rollouts
from ares.types import AresError, Feedback, Rollout, Span
from tests.support.composed import composed

# Of each question the scores of four rollouts of two sentences; the third says the same as the first.
SCORES = {
    "clear": [(1.0, 1.0), (0.0, 0.5), (1.0, 1.0), (0.5, 0.5)],
    "close": [(0.5, 0.5), (0.5, 0.4), (0.5, 0.5), (0.5, 0.5)],
    "equal": [(0.5, 1.0), (1.0, 0.5), (0.5, 1.0), (0.75, 0.75)],
    "quarantined": [(1.0, 1.0), None, None, None],
}


@pytest.fixture
def context(tmp_path: Path) -> StepContext:
    rollouts, feedback = [], []
    for pid, rows in SCORES.items():
        for sample, scores in enumerate(rows):
            ids = (7, 8 + sample % 2 + 5 * (sample == 3))
            spans = (Span(0, 2), Span(3, 5))
            zeros = (0.0, 0.0)
            row_id = f"{pid}/{sample}"
            rollouts.append(Rollout(row_id, pid, sample, "A. B.", ids, False, spans, (0, 1), zeros, zeros))
            feedback.append(Feedback(row_id, scores, "ok" if scores else "quarantined"))
    inputs = {"rollouts": tmp_path / "rollouts", "feedback": tmp_path / "feedback.parquet"}
    inputs["rollouts"].mkdir()
    write_rollouts(inputs["rollouts"] / "part-0.parquet", rollouts)
    write_feedback(inputs["feedback"], feedback)
    return StepContext(tmp_path, "round-1/pairs", tmp_path, 1, composed(), "", inputs)


def test_pairs_by_margin_with_ties_counted(context: StepContext) -> None:
    pairs, metrics = _of_rollouts(composed(), context)
    assert [pair.row_id for pair in pairs] == ["clear/0-1", "close/0-1"]
    assert pairs[0].chosen.scores == (1.0, 1.0)
    assert metrics == {"tied": 1, "difference": pytest.approx((0.75 + 0.05) / 2)}
    pairs, metrics = _of_rollouts(composed("pairs.margin=0.1"), context)
    assert [pair.row_id for pair in pairs] == ["clear/0-1"]
    assert metrics == {"tied": 2, "difference": 0.75}


def test_all_pairs_leave_out_equal_scores_and_equal_responses(context: StepContext) -> None:
    pairs, metrics = _of_rollouts(composed("pairs.source=all", "pairs.margin=0.1"), context)
    expected = ["clear/0-1", "clear/0-3", "clear/2-1", "clear/3-1", "clear/2-3"]
    assert [pair.row_id for pair in pairs] == expected
    assert metrics["tied"] == 3 * 6 - 5


def test_rollouts_without_a_difference_are_refused(context: StepContext) -> None:
    with pytest.raises(
        AresError, match=r"No two of 16 rollouts .*13 have scores, and 3 pairs differ by no more than"
    ):
        _of_rollouts(composed("pairs.margin=1"), context)
