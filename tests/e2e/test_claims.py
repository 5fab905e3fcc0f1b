"""`experiment=claims` in a minute: all arms with one seed, two at a time, through the real command."""

import subprocess
import sys
from pathlib import Path

import pytest

import ares
from ares.storage.files import read_json
from tests.support.small_run import SMALL

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def train(runs: Path) -> str:
    small = [text for text in SMALL if not text.startswith("experiment=")]
    settings = ["experiment=claims", *small, "study.seeds=1", "seed=1", f"paths.runs={runs}"]
    done = subprocess.run(
        [sys.executable, "train.py", *settings],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_all_arms_run_once_and_share_what_is_equal(tmp_path: Path) -> None:
    output = train(tmp_path)
    found = read_json(tmp_path / "claims/study.json")
    arms = [arm for arm in found["arms"] if arm != "baseline"]
    assert len(arms) == 9
    assert "9 of 9" in output
    assert all(arm.replace("_", " ") in output for arm in arms)
    roots = {arm: tmp_path / "claims/sweep" / f"{arm}-1" for arm in arms}
    steps = {arm: read_json(root / "manifest.json")["steps"] for arm, root in roots.items()}
    # One rationale policy, one set of answers of the baseline, one set of rollouts and scores for all arms ...
    for key in ("rationale", "baseline/lora", "round-1/rollouts", "round-1/score"):
        assert len({own[key]["shared"] for own in steps.values() if key in own}) == 1
    # ... and everything up to the answers for arms that differ in those only.
    assert steps["ares"]["round-1/ppo"]["shared"] == steps["rl_only"]["round-1/ppo"]["shared"]
    assert steps["ares"]["round-1/sft"]["shared"] == steps["second_model"]["round-1/sft"]["shared"]
    assert steps["ares"]["final/lora"]["shared"] != steps["second_model"]["final/lora"]["shared"]
    objectives = ("ares", "score_per_rationale", "rloo", "grpo")
    assert len({steps[arm]["round-1/ppo"]["shared"] for arm in objectives}) == 4
    assert "round-2/sft" in steps["two_rounds"]
    assert "round-1/score" not in steps["gold_only"]
    # The same command again has nothing to do.
    assert train(tmp_path).startswith("9 of 9 trials are done, 0 start now.")
    # A run with a second model instead of an adapter answers like any other.
    answer = ares.load(roots["second_model"]).ask("Which one is it?", ["red", "blue"])
    assert isinstance(answer.rationale, str)
