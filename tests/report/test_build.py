"""The report of a run: its settings, what it reads, and which data it accepts."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ares.config.compose import to_plain
from ares.config.schema import Config
from ares.evaluation.assessment import Assessment
from ares.pipeline.manifest import Artefact, StepEntry, read_manifest, write_entry
from ares.report.benchmarks import BenchmarkResult, benchmarks_of
from ares.report.build import read_assessments, report
from ares.steps.export import export
from ares.steps.prepare import source_hash
from ares.storage.files import read_json, write_json, write_jsonl
from ares.types import AresError
from tests.support.composed import composed


def assessment(pid: str, labels: list[str] | None, rouge_l: float | None = None) -> Assessment:
    return Assessment(pid, ["So."] * len(labels or "a"), labels, rouge_l, 0.0, 9, False)


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


def test_benchmark_results_are_read(tmp_path: Path) -> None:
    scores = {"f1": 0.0, "score": 1234.5, "yes": 50.0}
    found = {"benchmark": "mme", "rule": "lmms_eval", "questions": 2374, "failed": 3, "metrics": scores}
    write_json(tmp_path / "scores.json", found)
    outputs = {"benchmark_scores": Artefact("scores.json", "0")}
    steps = {"rationale": StepEntry("0", {}, {}, {}), "final/x": StepEntry("0", {}, {}, outputs)}
    [result] = benchmarks_of(tmp_path, steps)
    assert result == BenchmarkResult("mme", "lmms_eval", 2374, 3, 1234.5, {"f1": 0.0, "yes": 50.0})
    assert (result.headline.label, result.headline.value) == ("mme", "1,234")
    assert result.headline.note == "2,374 questions, rule lmms_eval, 3 without a readable answer"
