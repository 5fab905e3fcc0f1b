"""report: one page with what ARES changed, the rationales of every evaluated question, and the curves of every step."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ares.config.commands import command
from ares.config.schema import Config
from ares.evaluation.assessment import Assessment
from ares.pipeline.manifest import StepEntry, read_manifest
from ares.report.benchmarks import benchmarks_of
from ares.report.calibration import calibration_charts
from ares.report.headline import Scored, headline, method_of, policy_name, scored_at
from ares.report.page import AccuracyRow, ReportData, Reproduction, render_report
from ares.report.questions import Browser, browser_of, draw, material_of
from ares.report.selection import selection_of
from ares.steps.common.inputs import logs_folder, require_own_data
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import hash_of, read_csv, read_jsonl, write_json
from ares.storage.rollout_texts import read_pids
from ares.types import AresError


def report(config: Config, root: Path) -> Path:
    """Writes `metrics.json` and `report.html` from the finished steps of a run.

    Raises AresError where there are none, and where their data differ from the configuration's.
    """
    steps = read_manifest(root)
    if not steps:
        raise AresError(
            f"{root} holds no finished step to report on; run `{command('ares', run=config.run)}`."
        )
    hashes = {key: step.inputs["data"].sha256 for key, step in steps.items() if "data" in step.inputs}
    require_own_data(config, root, hashes)
    without, with_ares = (scored_at(root, steps, place) for place in ("baseline", "final"))
    metrics = {key: entry.metrics for key, entry in steps.items()}
    own = dict(with_ares.scores) if with_ares else {}
    write_json(root / "metrics.json", {**own, "steps": metrics})
    assessed = read_assessments(root, steps)
    curves = {key: read_curves(logs_folder(root, key) / "metrics.csv") for key in steps}
    data = ReportData(
        run=config.run,
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        config=_summary(root),
        inputs_hash=hash_of({key: entry.hash for key, entry in steps.items()}),
        headline=headline(steps, assessed, without, with_ares),
        steps=steps,
        curves={key: found for key, found in curves.items() if found},
        policies={policy_name(key, method_of(steps)): metrics[key] for key in assessed},
        accuracy=accuracy_rows(without, with_ares),
        failed=with_ares.scores["failed_extractions"] if with_ares else None,
        closeness=[scored.scores["rationales"] for scored in (without, with_ares) if scored],
        reproduction=reproduction(steps),
        selection=selection_of(root, steps),
        benchmarks=benchmarks_of(root, steps),
        calibration=calibration_charts(root, steps),
    )
    path = root / "report.html"
    render_report(data, path, browser=lambda limit: run_browser(config, root, steps, limit))
    return path


def run_browser(config: Config, root: Path, steps: Mapping[str, StepEntry], limit: int) -> Browser:
    """The questions that a run sampled, paired, assessed or answered, as far as they fit into `limit` bytes."""
    seen = _evaluated(root, steps)
    if not seen:
        return Browser([], {}, 0)
    problems, splits = read_problems(config.data, prepared(config, make=False)["data"])
    pids = {split: [pid for pid in own if pid in seen] for split, own in splits.items()}
    drawn = draw(pids)
    kept = drawn[: config.report.questions]
    material = material_of(root, steps, (pid for _, pid in kept))
    return browser_of(kept, problems, material, total=len(drawn), limit=limit)


def _evaluated(root: Path, steps: Mapping[str, StepEntry]) -> set[str]:
    """The pids of questions with rollouts, pairs, assessments and predictions; without rollouts, the repaired."""
    found: set[str] = set()
    names = {"rollouts", "pairs", "assessment", "predictions"}
    if not any("rollouts" in entry.outputs for entry in steps.values()):
        names.add("corrections")
    for entry in steps.values():
        for name in names & entry.outputs.keys():
            path = root / entry.outputs[name].path
            found |= {row["pid"] for row in read_jsonl(path)} if path.suffix == ".jsonl" else read_pids(path)
    return found


def read_curves(path: Path) -> dict[str, list[list[float]]]:
    """The columns of a metrics.csv as {name: [[step, value], ...]}; empty where there is no file."""
    curves: dict[str, list[list[float]]] = {}
    for row in read_csv(path):
        for name, value in row.items():
            if value and name not in ("step", "epoch") and not name.endswith("/epoch"):
                curves.setdefault(name, []).append([float(row["step"]), float(value)])
    return curves


def _summary(root: Path) -> dict[str, Any]:
    # The configuration of the steps, not of the command line that writes the page.
    run: Any = OmegaConf.to_container(OmegaConf.load(root / "config.yaml"))
    groups = {name: run[name]["name"] for name in ("data", "model", "features", "teacher")}
    return {**groups, "rounds": run["rounds"], "seed": run["seed"]}


def read_assessments(root: Path, steps: Mapping[str, StepEntry]) -> dict[str, list[Assessment]]:
    """The assessments of each `assess` step by its key, in the order in which the policies were trained."""
    paths = {
        key: step.outputs["assessment"].path for key, step in steps.items() if "assessment" in step.outputs
    }
    order = sorted(paths, key=lambda key: (key.startswith("final/"), key.startswith("round-"), len(key), key))
    return {key: [Assessment(**row) for row in read_jsonl(root / paths[key])] for key in order}


def accuracy_rows(without: Scored | None, with_ares: Scored | None) -> list[AccuracyRow]:
    """Accuracy by category, without and with ARES."""
    scored = with_ares or without
    if scored is None:
        return []
    before, after = ({} if side is None else side.scores["accuracy"] for side in (without, with_ares))
    counts = scored.scores["counts"]
    return [
        AccuracyRow(name, before.get(name), after.get(name), counts.get(name, 0))
        for name in scored.scores["accuracy"]
    ]


def reproduction(steps: Mapping[str, StepEntry]) -> Reproduction:
    """The commands, commits, versions and machines of the steps, each once, in order."""

    def each(values: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(filter(None, values)))

    return Reproduction(
        commands=each(step.origin.get("command", "") for step in steps.values()),
        commits=each(step.origin.get("commit", "") for step in steps.values()),
        machines=each(step.origin.get("machine", "") for step in steps.values()),
        versions=each(f"{k} {v}" for step in steps.values() for k, v in step.versions.items()),
    )
