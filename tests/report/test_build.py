"""What the report's step makes of a run: its figures, its settings, and whose data it takes."""

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ares.config.compose import to_plain
from ares.config.schema import Config
from ares.report.build import headline, report
from ares.steps.export import export
from ares.steps.prepare import source_hash
from ares.storage.files import read_json, write_json
from ares.types import AresError
from tests.support.composed import composed

SCORES: dict[str, Any] = {
    "split": "test",
    "questions": 400,
    "accuracy": {"AVG": 89.25},
    "majority": 31.25,
    "direct_answer": None,
}
STEPS = {
    "rationale": {"seconds": 60.0, "usd": 0.0, "requests": 0},
    "round-1/score": {"seconds": 12.0, "usd": 1.5, "requests": 1234},
}


def figures(rows: list[dict[str, Any]], scores: dict[str, Any] | None) -> dict[str, tuple[str, str]]:
    found = headline(STEPS, rows, scores)
    return {figure["label"]: (figure["value"], figure["note"].replace("\u00a0", " ")) for figure in found}


def test_money_and_time_are_always_there() -> None:
    assert figures([], None) == {
        "Teacher": ("$1.50", "1,234 requests"),
        "Time": ("1\u00a0min 12\u00a0s", "2 steps"),
    }


def test_accuracy_stands_beside_its_interval_and_what_guessing_gives() -> None:
    value, note = figures([], SCORES)["Accuracy"]
    assert value == "89.25\u00a0%"
    # Wilson's interval of 357 of 400.
    assert note == (
        "400 test questions; 95 % interval 85.8 to 91.9; always the most frequent choice: 31.25 %"
    )
    assert "Direct answers" not in figures([], SCORES)
    assert figures([], {**SCORES, "direct_answer": 61.3})["Direct answers"][0] == "61.30\u00a0%"
    assert "choice" not in figures([], {**SCORES, "majority": None})["Accuracy"][1]


def test_the_gain_of_rl_is_a_mean_over_rationales_with_its_interval() -> None:
    # A rationale without a sentence counts 0.
    rows = [
        {"before": {"scores": [0.2, 0.4]}, "after": {"scores": [0.5]}},
        {"before": {"scores": []}, "after": {"scores": [0.2]}},
    ]
    value, note = figures(rows, None)["Score gained by RL"]
    assert value == "+0.200"
    assert "0.150 → 0.350" in note
    assert note.endswith("mean of 2 val rationales; 95 % interval +0.200 to +0.200")


def demo(runs: Path, *overrides: str) -> Config:
    return composed("experiment=demo", f"paths.runs={runs}", *overrides)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A run whose only step was made by the demo's settings."""
    config, root = demo(tmp_path, "seed=3"), tmp_path / "demo"
    entry = {
        **{"seconds": 1.0, "usd": 0.0, "requests": 0, "hash": "0", "metrics": {"loss": 0.5}, "outputs": {}},
        "inputs": {"data": {"path": "", "sha256": source_hash(config)}},
    }
    write_json(root / "manifest.json", {"run": "demo", "steps": {"rationale": entry}})
    (root / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(to_plain(config))))
    return root


def test_the_page_shows_the_settings_that_the_steps_were_made_with(made: Path) -> None:
    page = report(demo(made.parent, "seed=3", "stage=report", "teacher=anthropic"), made).read_text()
    shown = dict(re.findall(r"<li><span>(\w+)</span> (\w+)</li>", page))
    assert shown == {
        **{"data": "sample", "model": "tiny", "features": "patches", "teacher": "reference"},
        **{"rounds": "1", "seed": "3"},
    }
    assert read_json(made / "metrics.json") == {"steps": {"rationale": {"loss": 0.5}}}


def test_other_data_are_refused_unless_the_run_is_to_be_kept(made: Path) -> None:
    with pytest.raises(
        AresError, match=r"rationale were made from other data than data=sample.*config\.yaml"
    ):
        report(demo(made.parent, "seed=4"), made)
    assert not (made / "report.html").exists()
    assert report(demo(made.parent, "seed=4", "on_change=keep"), made).exists()


def test_export_refuses_other_data_before_it_writes_anything(made: Path) -> None:
    manifest = read_json(made / "manifest.json")
    manifest["steps"]["rationale"]["outputs"] = {"policy": {"path": "rationale/policy"}}
    write_json(made / "manifest.json", manifest)
    with pytest.raises(AresError, match="were made from other data"):
        export(demo(made.parent, "seed=4"))
    assert not (made / "export").exists()
