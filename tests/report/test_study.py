"""A study's tables: means, paired differences and wins, over seeds and questions."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from ares.report.study import BASELINE, MEASURES, compared, study, tables
from ares.report.study_curves import study_curves
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


def test_published_results_stand_next_to_the_first_arm(results: dict) -> None:
    *_, both = tables(results, {"the_paper": {"decided": "around 70"}})
    paper, ares = ([cell.strip() for cell in row.split("|")[1:-1]] for row in both.splitlines()[2:])
    assert paper == ["the paper", "around 70", ""]
    assert ares[0] == "ares"
    assert ares[1].startswith("75.0 (")
    assert ares[2] == "+20.0 (+20.0 to +20.0)"


@pytest.mark.parametrize(
    ("setting", "remedy"), [("data=scienceqa", "use data=sample"), ("baseline=false", "leave out")]
)
def test_study_without_truth_or_baseline_is_refused(tmp_path: Path, setting: str, remedy: str) -> None:
    config = composed("experiment=claims", setting, f"paths.runs={tmp_path}")
    with pytest.raises(AresError, match=remedy):
        study(config)
    assert not list(tmp_path.iterdir())


def test_curves_have_a_line_and_a_name_for_each_arm_that_logged_them(tmp_path: Path) -> None:
    for arm, scale in (("ares", 1), ("rl_only", 2)):
        log = tmp_path / arm / "logs/round-1/sft/metrics.csv"
        log.parent.mkdir(parents=True)
        rows = [f"{step},{scale * step}" for step in range(1, 5)]
        log.write_text("\n".join(["step,round-1/sft/loss", *rows]))
    roots = {arm: tmp_path / arm for arm in ("ares", "rl_only", "grpo")}
    drawn = ElementTree.fromstring(study_curves(roots))
    lines = [line.get("class") for line in drawn.iter("{http://www.w3.org/2000/svg}polyline")]
    assert lines == ["run-1", "run-2"]
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"round-1/sft/loss", "ares", "rl only"} <= set(texts)
    assert "grpo" not in texts
