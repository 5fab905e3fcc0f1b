"""Runs side by side: what they differ in, what they gained, and their rationales of the same questions."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ares.charts import overlay
from ares.config.compose import to_plain
from ares.config.schema import Config
from ares.pipeline.manifest import StepEntry, artefact_at, write_entry
from ares.report.compare import compare, differing, gains
from ares.steps.prepare import prepared, source_hash
from ares.storage.files import write_jsonl
from ares.types import AresError
from tests.support.composed import composed


def config(runs: Path, *overrides: str) -> Config:
    return composed(
        *("experiment=demo", "data.sizes={train: 4, val: 4, test: 2}", f"paths.runs={runs}", "features=none"),
        *overrides,
    )


def write_run(runs: Path, name: str, texts: Mapping[str, str], *overrides: str) -> None:
    """A run that assessed rationales of val questions and logged one curve."""
    own, root = config(runs, f"run={name}", *overrides), runs / name
    rows = [
        {"pid": pid, "sentences": [text], "labels": ["supporting" if "Yes" in text else "false"]}
        | {"rouge_l": None, "repetition": 0.0, "tokens": 3, "truncated": False}
        for pid, text in texts.items()
    ]
    write_jsonl(root / "round-1/assessment.jsonl", rows)
    (root / "logs/round-1/assess").mkdir(parents=True)
    curve = "step,round-1/assess/loss\n" + "".join(f"{i},{i * len(name)}\n" for i in range(3))
    (root / "logs/round-1/assess/metrics.csv").write_text(curve)
    data = artefact_at(prepared(own, make=True)["data"], root)
    entry = StepEntry(
        "0",
        {},
        {"data": type(data)(data.path, source_hash(own))},
        {"assessment": artefact_at(root / "round-1/assessment.jsonl", root)},
        metrics={"supporting": sum("Yes" in text for text in texts.values()) / len(texts)},
    )
    write_entry(root, "round-1/assess", entry)
    (root / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(to_plain(own))))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Runs a and b on the same data, c on other data."""
    from ares.steps.prepare import read_problems

    own = config(tmp_path)
    val = read_problems(own.data, prepared(own, make=True)["data"])[1]["val"]
    write_run(tmp_path, "a", dict.fromkeys(val, "No, a thing."))
    write_run(tmp_path, "bb", dict.fromkeys(val, "Yes, it is."), "rl.kl_coef=0.5")
    return tmp_path


def shown(path: Path) -> tuple[str, dict]:
    html = path.read_text()
    data = html.split('id="questions-data">')[1].split("</script>")[0] if "questions-data" in html else "{}"
    return html, json.loads(data)


def test_page_compares_settings_results_curves_and_rationales(runs: Path) -> None:
    path = compare(config(runs, "stage=report", "run=both", "report.compare=[a,bb]"))
    assert path == runs / "both/compare.html"
    html, data = shown(path)
    for text in ("<code>rl.kl_coef</code>", "+100.0 points", 'class="run-1"', "0.0\u00a0%", "100.0\u00a0%"):
        assert text in html
    assert "<code>seed</code>" not in html
    rows = [
        re.sub(r"\s*<[^>]+>\s*", "|", row).strip("|") for row in html.split("<tbody>")[1].split("</tr>")[:2]
    ]
    assert rows == [
        "a||0.0\u00a0%||$0.00||–",
        "bb||100.0\u00a0%||$0.00||+100.0 points, 95\u00a0% interval +100.0 to +100.0",
    ]
    assert len(data["questions"]) == 4
    versions = [[(v["name"], v["sentences"], v["quality"]) for v in q["versions"]] for q in data["questions"]]
    assert versions == [[("a", ["No, a thing."], 0.0), ("bb", ["Yes, it is."], 1.0)]] * 4


def test_runs_on_other_data_have_no_questions_in_common(runs: Path) -> None:
    write_run(runs, "c", {"1": "No."}, "seed=1")
    html, data = shown(compare(config(runs, "run=both", "report.compare=[a,c]")))
    assert "<code>seed</code>" in html
    assert data == {}


def test_sweep_is_compared_by_its_jobs(runs: Path) -> None:
    for name in ("a", "bb"):
        shutil.move(runs / name, runs / f"demo/sweep/job={name}")
    html, _ = shown(compare(config(runs, "run=both", "report.compare=[demo]")))
    assert ">job=a</th>" in html
    assert ">job=bb</th>" in html


@pytest.mark.parametrize(
    ("names", "message"), [("a", "needs two"), ("a,absent", "absent is neither a finished run")]
)
def test_fewer_than_two_runs_are_refused(runs: Path, names: str, message: str) -> None:
    with pytest.raises(AresError, match=message):
        compare(config(runs, "run=both", f"report.compare=[{names}]"))


def test_settings_differ_by_value_and_absence() -> None:
    found = differing(
        {"a": {"rl": {"k": 1, "lr": 2}, "run": "a"}, "b": {"rl": {"k": 3, "lr": 2}, "run": "b", "x": 0}}
    )
    assert found == {"rl.k": {"a": "1", "b": "3"}, "x": {"a": "–", "b": "0"}}


def test_no_gain_without_common_questions() -> None:
    assert gains({"a": [], "b": []}) == {}


def test_overlaid_curves_share_their_scale() -> None:
    chart = overlay("loss", [[[0, 1.0], [10, 2.0]], [[0, 1.0], [20, 4.0]]])
    assert chart is not None
    [other] = chart.others
    first, last = chart.line.split()[-1], other.split()[-1]
    assert float(last.split(",")[0]) > float(first.split(",")[0])
    assert float(last.split(",")[1]) < float(first.split(",")[1])
    assert chart.line.split()[0] == other.split()[0]
    assert chart.svg.count("<polyline") == 2
    assert overlay("loss", [[[0, 1.0]], []]) is None
