"""Compares finished runs, or the jobs of a sweep, on one page: settings, results, curves and rationales side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ares.charts import Chart, overlay
from ares.config.commands import command
from ares.config.compose import to_config
from ares.config.schema import Config
from ares.evaluation.assessment import Assessment
from ares.evaluation.statistics import paired_bootstrap
from ares.pipeline.manifest import StepEntry, read_manifest
from ares.report.benchmarks import benchmarks_of
from ares.report.build import read_assessments, read_curves
from ares.report.headline import HeadlineNumber, headline, interval, scored_at
from ares.report.page import write_page
from ares.report.questions import Browser, Material, Texts, browser_of, draw, material_of
from ares.steps.common.inputs import logs_folder
from ares.steps.prepare import prepared, read_problems
from ares.types import AresError

COLORS = 6  # runs whose curves are drawn; more colors look alike
_LABELS = (
    "run",
    "paths",
    "stage.name",
    "stage.steps",
    "study",
    "sweep",
    "report",
    "logger",
    "on_change",
)  # settings that say nothing of results


@dataclass(frozen=True)
class Run:
    """A finished run, its name on the page, its configuration as plain values, and its last assessment."""

    name: str
    root: Path
    steps: Mapping[str, StepEntry]
    settings: Mapping[str, Any]
    assessed: Mapping[str, Sequence[Assessment]]

    @property
    def data(self) -> str:
        """The hash of the data that its steps read."""
        return next((step.inputs["data"].sha256 for step in self.steps.values() if "data" in step.inputs), "")


def compare(config: Config) -> Path:
    """Writes `compare.html` into the run's folder, from the runs and sweeps that `report.compare` names.

    Raises AresError for fewer than two runs, and for a name without one.
    """
    runs = Path(config.paths.runs).resolve()
    roots = {name: root for text in config.report.compare for name, root in _named(runs, text).items()}
    return write_comparison(runs / config.run / "compare.html", roots)


def _named(runs: Path, name: str) -> dict[str, Path]:
    """The run of a name; of a sweep (`<run>/sweep`, or the name of one without steps of its own) all its jobs."""
    if (runs / name / "manifest.json").exists():
        return {name: runs / name}
    sweep = runs / name if Path(name).name == "sweep" else runs / name / "sweep"
    jobs = sorted(path.parent for path in sweep.glob("*/manifest.json"))
    if not jobs:
        raise AresError(
            f"report.compare: {runs / name} is neither a finished run nor a sweep; run `{command('ares', run=name)}`."
        )
    return {path.name: path for path in jobs}


def write_comparison(path: Path, roots: Mapping[str, Path]) -> Path:
    """Writes the comparison of run folders by name to `path`. Raises AresError for fewer than two finished runs."""
    runs = [run for name, root in roots.items() if (run := _read(name, root))]
    if len(runs) < 2:
        raise AresError("report.compare needs two finished runs or more: report.compare=[a,b].")
    path.parent.mkdir(parents=True, exist_ok=True)
    last = {run.name: _last(run) for run in runs}
    numbers = {run.name: {number.label: number for number in _numbers(run)} for run in runs}
    metrics = {run.name: run.steps[[*run.assessed][-1]].metrics for run in runs if run.assessed}
    write_page(
        "compare.html.j2",
        path,
        lambda limit: browser_of_runs(runs, limit),
        runs=[run.name for run in runs],
        differing=differing({run.name: run.settings for run in runs}),
        numbers=numbers,
        columns=list(dict.fromkeys(label for own in numbers.values() for label in own)),
        gains=gains(last),
        policies=metrics,
        measures=list(dict.fromkeys(name for own in metrics.values() for name in own)),
        charts=charts_of(runs[:COLORS]),
        colored=[run.name for run in runs[:COLORS]],
    )
    return path


def _read(name: str, root: Path) -> Run | None:
    steps = read_manifest(root)
    if not steps:
        return None
    settings: Any = OmegaConf.to_container(OmegaConf.load(root / "config.yaml"))
    return Run(name, root, steps, settings, read_assessments(root, steps))


def _numbers(run: Run) -> list[HeadlineNumber]:
    sides = [scored_at(run.root, run.steps, place) for place in ("baseline", "final")]
    scored = [result.headline for result in benchmarks_of(run.root, run.steps)]
    return [*headline(run.steps, run.assessed, *sides), *scored]


def _last(run: Run) -> Sequence[Assessment]:
    return [*run.assessed.values()][-1] if run.assessed else ()


def differing(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """The settings that runs differ in: key -> run -> value as text; names and places of runs left out."""
    flat = {name: _flat(own) for name, own in settings.items()}
    keys = sorted({key for own in flat.values() for key in own})
    found = {key: {name: str(own.get(key, "–")) for name, own in flat.items()} for key in keys}
    return {
        key: values
        for key, values in found.items()
        if len(set(values.values())) > 1 and not {key, key.split(".")[0]} & set(_LABELS)
    }


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix.rstrip("."): value}
    return {k: v for name, item in value.items() for k, v in _flat(item, f"{prefix}{name}.").items()}


def gains(last: Mapping[str, Sequence[Assessment]]) -> dict[str, str]:
    """The gain in rationale quality of each further run against the first, on their common questions, as text."""
    found = {}
    (_, first), *others = last.items()
    before = {row.pid: row.quality for row in first if row.quality is not None}
    scale = 100 if any(row.labels is not None for row in first) else 1
    for name, rows in others:
        after = {row.pid: row.quality for row in rows if row.quality is not None}
        if pids := [pid for pid in before if pid in after]:
            gain = paired_bootstrap([before[p] for p in pids], [after[p] for p in pids], seed=0)
            found[name] = interval(gain, scale=scale)
    return found


def charts_of(runs: Sequence[Run]) -> dict[str, list[Chart]]:
    """The curves that the runs have in common, by step, drawn on one scale; the first run's first."""
    found: dict[str, list[Chart]] = {}
    for key in runs[0].steps:
        curves = [read_curves(logs_folder(run.root, key) / "metrics.csv") for run in runs]
        for name in curves[0]:
            points = [own.get(name, []) for own in curves]
            if all(len(own) > 1 for own in points) and (
                chart := overlay(name.removeprefix(f"{key}/"), points)
            ):
                found.setdefault(key, []).append(chart)
    return found


def browser_of_runs(runs: Sequence[Run], limit: int) -> Browser:
    """The questions that all runs wrote rationales for, with each run's last one; empty for runs on other data."""
    config = to_config(OmegaConf.create(dict(runs[0].settings)))
    if len({run.data for run in runs}) > 1:
        return Browser([], {}, 0)
    own = {run.name: material_of(run.root, run.steps, ()) for run in runs}
    texts: dict[str, Texts] = {name: [{}, *found.texts.values()][-1] for name, found in own.items()}
    common = set.intersection(*(set(rows) for rows in texts.values()))
    if not common:
        return Browser([], {}, 0)
    problems, splits = read_problems(config.data, prepared(config, make=False)["data"])
    drawn = draw({split: [pid for pid in pids if pid in common] for split, pids in splits.items()})
    answers = {
        name: found.answers["with ARES"] for name, found in own.items() if "with ARES" in found.answers
    }
    kept = drawn[: config.report.questions]
    return browser_of(kept, problems, Material(texts, answers, {}), total=len(drawn), limit=limit)
