"""A study's tables: means, paired differences and wins, over seeds and questions."""

from pathlib import Path

import numpy as np
import pytest

from ares.report.study import BASELINE, MEASURES, compared, study, tables
from ares.types import AresError
from tests.support.composed import composed


def arm(shift: float, *, seeds: int = 2, wins: float = 0.0, losses: float = 0.0) -> list[dict]:
    """`seeds` times 100 questions whose measures are question number / 100 + `shift`."""
    own = np.arange(100) / 100
    verdicts = {
        "wins": (own < wins).astype(float),
        "losses": (own >= 1 - losses).astype(float),
        "ties": ((own >= wins) & (own < 1 - losses)).astype(float),
    }
    return [{**dict.fromkeys(MEASURES, own + shift), **verdicts} for _ in range(seeds)]


@pytest.fixture(scope="module")
def results() -> dict:
    return compared(
        {BASELINE: arm(0.0), "ares": arm(0.2, wins=0.6, losses=0.2), "rl_only": arm(0.1, wins=0.0)}
    )


def test_differences_are_paired(results: dict) -> None:
    # Every question gains the same, so that nothing is uncertain, however different the questions are.
    gain = results["ares"][BASELINE]["accuracy"]
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.2, 0.2, 0.2))
    assert results["rl_only"]["first"]["accuracy"].value == pytest.approx(-0.1)
    assert results["ares"]["own"]["accuracy"].value == pytest.approx(0.695)


def test_wins_are_counted_with_and_without_ties(results: dict) -> None:
    found = results["ares"][BASELINE]
    assert [found[name].value for name in ("wins", "losses", "ties")] == pytest.approx([0.6, 0.2, 0.2])
    assert found["decided"].value == pytest.approx(0.75)
    assert 0.65 < found["decided"].low < 0.72 < 0.78 < found["decided"].high < 0.85
    assert results["rl_only"][BASELINE]["decided"].value == 0.5  # none is decided


def test_tables_show_every_arm_with_intervals(results: dict) -> None:
    means, gains, wins, against_first = tables(results)
    assert [row.split("|")[1].strip() for row in means.splitlines()[2:]] == [BASELINE, "ares", "rl only"]
    assert "+20.0 (+20.0 to +20.0)" in gains
    assert "75.0 (" in wins
    assert "−10.0 (−10.0 to −10.0)" in against_first
    assert "| ares" not in "\n".join(against_first.splitlines()[1:])


@pytest.mark.parametrize(
    ("setting", "remedy"), [("data=scienceqa", "use data=sample"), ("baseline=false", "leave out")]
)
def test_study_without_truth_or_baseline_is_refused(tmp_path: Path, setting: str, remedy: str) -> None:
    config = composed("experiment=claims", setting, f"paths.runs={tmp_path}")
    with pytest.raises(AresError, match=remedy):
        study(config)
    assert not list(tmp_path.iterdir())
