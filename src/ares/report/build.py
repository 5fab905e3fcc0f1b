"""report: one page with the metrics and curves of every step, and how the rationales of held-out questions changed."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from omegaconf import OmegaConf

from ares.config.commands import command
from ares.config.schema import Config
from ares.evaluation.assessment import Assessment
from ares.evaluation.statistics import paired_bootstrap, share_interval
from ares.pipeline.manifest import StepEntry, read_manifest
from ares.report.page import HeadlineNumber, ReportData, duration, render_report
from ares.steps.common.inputs import logs_folder, require_own_data
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import hash_of, read_csv, read_json, read_jsonl, write_json
from ares.types import AresError, Problem


def report(config: Config, root: Path) -> Path:
    """Writes `metrics.json` and `report.html` from the finished steps of a run.

    Raises AresError where there are none, and where their data differ from the configuration's.
    """
    steps = read_manifest(root)
    if not steps:
        raise AresError(
            f"{root} holds no finished step to report on; run `{command('ares', run=config.run)}`."
        )
    require_own_data(
        config,
        root,
        {key: step.inputs["data"].sha256 for key, step in steps.items() if "data" in step.inputs},
    )
    scores = read_json(root / "final/scores.json") if "final/evaluate" in steps else None
    metrics = {key: entry.metrics for key, entry in steps.items()}
    write_json(root / "metrics.json", {**(scores or {}), "steps": metrics})
    assessed = read_assessments(root, steps)
    data: ReportData = {
        "run": config.run,
        "created": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "config": _summary(root),
        "inputs_hash": hash_of({key: entry.hash for key, entry in steps.items()}),
        "headline": headline(steps, assessed, scores),
        "steps": steps,
        "curves": {
            key: found for key in steps if (found := read_curves(logs_folder(root, key) / "metrics.csv"))
        },
        "policies": {policy_name(key): metrics[key] for key in assessed},
        "examples": _examples(config, assessed),
        "accuracy": scores["accuracy"] if scores else None,
        "counts": scores["counts"] if scores else None,
        "failed": scores["failed_extractions"] if scores else None,
        "rationale_metrics": scores["rationales"] if scores else None,
    }
    path = root / "report.html"
    render_report(data, path)
    return path


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


def policy_name(key: str) -> str:
    """The display name of the policy that a step assessed."""
    place = key.removesuffix("/assess")
    return {"rationale": "before RL", "final": "after SFT"}.get(
        place, f"after RL ({place.replace('-', ' ')})"
    )


def headline(
    steps: Mapping[str, StepEntry], assessed: dict[str, list[Assessment]], scores: dict[str, Any] | None
) -> list[HeadlineNumber]:
    """The numbers at the head of the page: rationales, accuracy, direct answers, money and time, where known."""
    found = _rationales(assessed)
    if scores:
        found += _answers(scores)
    seconds = sum(entry.seconds for entry in steps.values())
    usd = sum(entry.usd for entry in steps.values())
    requests = sum(entry.requests for entry in steps.values())
    found.append({"label": "Teacher", "value": f"${usd:.2f}", "note": f"{requests:,} requests"})
    found.append({"label": "Time", "value": duration(seconds), "note": f"{len(steps)} steps"})
    return found


def _rationales(assessed: dict[str, list[Assessment]]) -> list[HeadlineNumber]:
    """The quality of the rationales by policy, and the gain of the first round of RL."""
    values = {
        key: {row.pid: row.quality for row in rows if row.quality is not None}
        for key, rows in assessed.items()
    }
    if not values or not all(values.values()):
        return []
    exact = any(row.labels is not None for rows in assessed.values() for row in rows)
    shown = [fmean(found.values()) for found in values.values()]
    note = f"{len(next(iter(values.values()))):,} val rationales {' → '.join(map(policy_name, values))}"
    before, after = values.get("rationale/assess", {}), values.get("round-1/assess", {})
    if pids := [pid for pid in before if pid in after]:
        gain, low, high = paired_bootstrap([before[p] for p in pids], [after[p] for p in pids], seed=0)
        note += f"; RL {_signed(gain)}, 95\u00a0% interval {_signed(low)} to {_signed(high)}"
    value = " → ".join(f"{100 * x:.1f}\u00a0%" if exact else f"{x:.3f}" for x in shown)
    return [{"label": "Supporting sentences" if exact else "ROUGE-L", "value": value, "note": note}]


def _answers(scores: dict[str, Any]) -> list[HeadlineNumber]:
    average, questions = scores["accuracy"]["AVG"], scores["questions"]
    low, high = share_interval(round(average / 100 * questions), questions)
    note = (
        f"{questions:,} {scores['split']} questions; 95\u00a0% interval {100 * low:.1f} to {100 * high:.1f}"
    )
    if scores["majority"] is not None:
        note += f"; always the most frequent choice: {scores['majority']:.2f}\u00a0%"
    found: list[HeadlineNumber] = [{"label": "Accuracy", "value": f"{average:.2f}\u00a0%", "note": note}]
    if scores["direct_answer"] is not None:
        note = "VQA accuracy of the chosen options' texts, difficult questions left out"
        found.append(
            {"label": "Direct answers", "value": f"{scores['direct_answer']:.2f}\u00a0%", "note": note}
        )
    return found


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _examples(
    config: Config, assessed: dict[str, list[Assessment]]
) -> list[tuple[Problem, Assessment, Assessment]]:
    if not assessed:
        return []
    problems, _ = read_problems(config.data, prepared(config, make=False)["data"])
    first, *_, last = [*assessed.values(), *assessed.values()]
    after = {row.pid: row for row in last}
    # A fixed draw by hash: neither the best nor the worst.
    ordered = sorted((row for row in first if row.pid in after), key=lambda row: hash_of(row.pid))
    return [(problems[row.pid], row, after[row.pid]) for row in ordered[: config.report.examples]]
