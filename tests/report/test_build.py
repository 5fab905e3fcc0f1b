"""The report of a run: its headline, its settings, and which data it accepts."""

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ares.config.compose import to_plain
from ares.config.schema import Config
from ares.evaluation.assessment import Assessment
from ares.pipeline.manifest import Artefact, StepEntry, read_manifest, write_entry
from ares.report.build import headline, read_assessments, report
from ares.steps.export import export
from ares.steps.prepare import source_hash
from ares.storage.files import read_json, write_jsonl
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
    "rationale": StepEntry("0", {}, {}, {}, seconds=60.0),
    "round-1/score": StepEntry("0", {}, {}, {}, seconds=12.0, usd=1.5, requests=1234),
}


def assessment(pid: str, labels: list[str] | None, rouge_l: float | None = None) -> Assessment:
    return Assessment(pid, ["So."] * len(labels or "a"), labels, rouge_l, 0.0, 9, False)


def shown(assessed: dict[str, list[Assessment]], scores: dict[str, Any] | None) -> dict[str, tuple[str, str]]:
    found = headline(STEPS, assessed, scores)
    return {
        item["label"]: tuple(item[name].replace("\u00a0", " ") for name in ("value", "note"))
        for item in found
    }


def test_headline_always_has_cost_and_time() -> None:
    assert shown({}, None) == {"Teacher": ("$1.50", "1,234 requests"), "Time": ("1 min 12 s", "2 steps")}


def test_accuracy_has_its_interval_and_the_majority_baseline() -> None:
    value, note = shown({}, SCORES)["Accuracy"]
    assert value == "89.25 %"
    # Wilson's interval of 357 of 400.
    assert note == (
        "400 test questions; 95 % interval 85.8 to 91.9; always the most frequent choice: 31.25 %"
    )
    assert "Direct answers" not in shown({}, SCORES)
    assert shown({}, {**SCORES, "direct_answer": 61.3})["Direct answers"][0] == "61.30 %"
    assert "choice" not in shown({}, {**SCORES, "majority": None})["Accuracy"][1]


def test_rationales_of_the_sample_by_their_supporting_sentences() -> None:
    # A rationale without a sentence counts 0.
    assessed = {
        "rationale/assess": [assessment("1", ["supporting", "false"]), assessment("2", [])],
        "round-1/assess": [assessment("1", ["supporting"]), assessment("2", ["invented", "supporting"])],
        "final/assess": [assessment("1", ["supporting"]), assessment("2", ["supporting"])],
    }
    value, note = shown(assessed, None)["Supporting sentences"]
    assert value == "25.0 % → 75.0 % → 100.0 %"
    assert note == (
        "2 val rationales before RL → after RL (round 1) → after SFT; RL +0.500, 95 % interval +0.500 to +0.500"
    )


def test_rationales_of_other_data_by_rouge_l_where_there_are_solutions() -> None:
    assessed = {
        key: [assessment("1", None, value), assessment("2", None, None)]
        for key, value in (("rationale/assess", 0.25), ("round-1/assess", 0.75))
    }
    value, note = shown(assessed, None)["ROUGE-L"]
    assert value == "0.250 → 0.750"
    assert note.startswith("1 val rationales before RL → after RL (round 1); RL +0.500")
    assert set(shown({"rationale/assess": [assessment("1", None)]}, None)) == {"Teacher", "Time"}


def test_assessments_are_read_in_the_order_of_training(tmp_path: Path) -> None:
    rows = [assessment("1", ["supporting"]), assessment("2", None, 0.5)]
    keys = ["final/assess", "round-10/assess", "round-2/assess", "rationale/assess"]
    write_jsonl(tmp_path / "rows.jsonl", [asdict(row) for row in rows])
    ppo = StepEntry("0", {}, {}, {})
    steps = {key: replace(ppo, outputs={"assessment": Artefact("rows.jsonl", "0")}) for key in keys}
    found = read_assessments(tmp_path, {**steps, "round-1/ppo": ppo})
    assert list(found) == keys[::-1]
    assert all(own == rows for own in found.values())


def demo(runs: Path, *overrides: str) -> Config:
    return composed("experiment=demo", f"paths.runs={runs}", *overrides)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A run whose only step was made by the demo's settings."""
    config, root = demo(tmp_path, "seed=3"), tmp_path / "demo"
    data = Artefact("", source_hash(config))
    write_entry(root, "rationale", StepEntry("0", {}, {"data": data}, {}, seconds=1.0, metrics={"loss": 0.5}))
    (root / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(to_plain(config))))
    return root


def test_page_shows_the_settings_of_the_steps(made: Path) -> None:
    page = report(demo(made.parent, "seed=3", "stage=report", "teacher=anthropic"), made).read_text()
    shown = dict(re.findall(r"<li><span>(\w+)</span> (\w+)</li>", page))
    assert shown == {
        **{"data": "sample", "model": "tiny", "features": "patches", "teacher": "oracle"},
        **{"rounds": "1", "seed": "3"},
    }
    assert read_json(made / "metrics.json") == {"steps": {"rationale": {"loss": 0.5}}}


def test_other_data_are_refused_unless_on_change_is_keep(made: Path) -> None:
    with pytest.raises(AresError, match=r"rationale read other data than data=sample.*config\.yaml"):
        report(demo(made.parent, "seed=4"), made)
    assert not (made / "report.html").exists()
    assert report(demo(made.parent, "seed=4", "on_change=keep"), made).exists()


def test_export_refuses_other_data_before_it_writes_anything(made: Path) -> None:
    entry = read_manifest(made)["rationale"]
    write_entry(made, "rationale", replace(entry, outputs={"policy": Artefact("rationale/policy", "0")}))
    with pytest.raises(AresError, match="read other data"):
        export(demo(made.parent, "seed=4"))
    assert not (made / "export").exists()
