"""stage=study: runs a study's trials and compares its arms with the policy before RL and with the first arm.

All measures are of the answered questions (`evaluate.split`), by the exact truth of the sample; a question that the judge did
not compare (`judge.questions`) is neither won nor lost nor tied.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ares.charts import bar_chart
from ares.config.schema import Config
from ares.data.sample.oracle import LABELS
from ares.evaluation.assessment import Assessment, assess_rationale
from ares.evaluation.statistics import nested_bootstrap
from ares.pipeline.manifest import read_entry, read_manifest
from ares.pipeline.runner import run_folder
from ares.pipeline.sweeps.study import Trial, run_study
from ares.report.compare import write_comparison
from ares.report.study_curves import study_curves
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import atomic_path, write_json
from ares.storage.tables import read_predictions, read_rationales, read_verdicts
from ares.types import AresError, Problem

BASELINE = "baseline"
# Of each question: in [0, 1] unless it is a number of tokens or sentences. `untrue` is false, invented or repeated.
MEASURES = (*("accuracy", *LABELS, "untrue"), *("repetition", "sentences", "tokens"))
_COUNTS = ("sentences", "tokens")
_VERDICTS = {"wins": "a", "losses": "b", "ties": "tie"}  # against the baseline
_SHOWN = ("accuracy", "supporting", "false", "invented", "untrue", "repetition", "tokens")


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % interval, None where it is not a comparison."""

    value: float
    low: float | None = None
    high: float | None = None

    def text(self, measure: str, *, signed: bool = False) -> str:
        """The value in percent or as a count, with its interval."""
        scale = 1.0 if measure in _COUNTS else 100.0
        numbers = [value * scale for value in (self.value, self.low, self.high) if value is not None]
        first, *ends = (f"{number:{'+' if signed else ''}.1f}".replace("-", "−") for number in numbers)
        return f"{first} ({ends[0]} to {ends[1]})" if ends else first


def study(config: Config) -> list[str]:
    """Runs what is missing of a study; writes `study.json`, `.md`, `.svg`, `-curves.svg` and `compare.html`; returns lines.

    Raises AresError for other data than the sample, without a baseline, and where a trial fails.
    """
    if config.data.name != "sample":
        raise AresError("stage=study measures sentences by the truth of the sample; use data=sample.")
    if not config.baseline:
        raise AresError("stage=study compares with the policy before RL; leave out baseline=false.")
    trials = run_study(config)
    folder = run_folder(config)
    results = compared(measured(trials))
    text = "\n\n".join(tables(results, config.study.published))
    bars = [(_spaced(arm), [found["own"][name].value for name in _SHOWN]) for arm, found in results.items()]
    plain = json.loads(json.dumps(results, default=vars))
    write_json(folder / "study.json", {"arms": plain, "seconds": seconds(trials)})
    first = {trial.arm: run_folder(trial.config) for trial in trials if trial.seed == config.seed}
    drawn = {"study.svg": bar_chart(_SHOWN, bars), "study-curves.svg": study_curves(first)}
    for name, content in {"study.md": text, **drawn}.items():
        with atomic_path(folder / name) as path:
            path.write_text(content + "\n", encoding="utf-8")
    page = [str(write_comparison(folder / "compare.html", first))] if len(first) > 1 else []
    return [text, *page]


def measured(trials: Sequence[Trial]) -> dict[str, list[dict[str, np.ndarray]]]:
    """arm -> one entry per seed: measure -> (questions,) float64, in the same order for all arms of a seed."""
    found: dict[str, list[dict[str, np.ndarray]]] = {BASELINE: []}
    problems: dict[int, Mapping[str, Problem]] = {}
    for trial in trials:
        if trial.seed not in problems:
            data = prepared(trial.config, make=False)["data"]
            problems[trial.seed] = read_problems(trial.config.data, data)[0]
            found[BASELINE].append(_measure(trial, BASELINE, problems[trial.seed]))
        found.setdefault(trial.arm, []).append(_measure(trial, "final", problems[trial.seed]))
    return found


def _measure(trial: Trial, place: str, problems: Mapping[str, Problem]) -> dict[str, np.ndarray]:
    """The measures of a trial's answers at a place and, at the end, the verdicts: one number per question."""
    root = run_folder(trial.config)
    steps = read_manifest(root)

    def file(step: str, name: str) -> Path:
        return root / steps[f"{place}/{step}"].outputs[name].path

    rationales = read_rationales(file("generate", f"rationales-{trial.config.evaluate.split}"))
    own = {row.pid: assess_rationale(problems[row.pid], row) for row in rationales}
    answers = read_predictions(file("lora", "predictions"))
    measures = [{**_numbers(own[row.pid]), "accuracy": float(row.correct)} for row in answers]
    found = {name: np.array([row[name] for row in measures]) for name in MEASURES}
    if place == "final":
        winners = {row.pid: row.winner for row in read_verdicts(file("judge", "verdicts"))}
        for name, winner in _VERDICTS.items():
            found[name] = np.array([float(winners.get(row.pid) == winner) for row in answers])
    return found


def _numbers(row: Assessment) -> dict[str, float]:
    shares = {label: row.share(label) for label in LABELS}
    untrue = shares["false"] + shares["invented"] + shares["repeated"]
    counts = {"sentences": float(len(row.sentences)), "tokens": float(row.tokens)}
    return {**shares, "untrue": untrue, "repetition": row.repetition, **counts}


def compared(found: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> dict[str, dict[str, Any]]:
    """For each arm its `own` means, and how it differs from the `baseline` and from the `first` arm, with intervals.

    "baseline" also has the shares of wins, losses and ties, and of wins among the decided.
    """
    first = next(arm for arm in found if arm != BASELINE)
    results: dict[str, dict[str, Any]] = {}
    for arm, seeds in found.items():
        own = {name: Estimate(float(np.mean([seed[name].mean() for seed in seeds]))) for name in MEASURES}
        results[arm] = {"own": own, BASELINE: {}, "first": {}}
        if arm != BASELINE:
            results[arm][BASELINE] = {**_differences(seeds, found[BASELINE]), **_wins(seeds)}
        if arm not in (BASELINE, first):
            results[arm]["first"] = _differences(seeds, found[first])
    return results


def _differences(
    seeds: Sequence[Mapping[str, np.ndarray]], others: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Estimate]:
    groups = [
        np.stack([own[name] - other[name] for name in MEASURES], axis=1)
        for own, other in zip(seeds, others, strict=True)
    ]
    middle, draws = np.mean([group.mean(axis=0) for group in groups], axis=0), nested_bootstrap(groups)
    return {name: _estimate(middle[i], draws[:, i]) for i, name in enumerate(MEASURES)}


def _wins(seeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Estimate]:
    """The shares of wins, losses and ties, and `decided`: of wins where one side wins (0.5 where none does)."""
    groups = [np.stack([seed[name] for name in _VERDICTS], axis=1) for seed in seeds]
    middle, draws = np.mean([group.mean(axis=0) for group in groups], axis=0), nested_bootstrap(groups)
    shares = {name: _estimate(middle[i], draws[:, i]) for i, name in enumerate(_VERDICTS)}
    return {**shares, "decided": _estimate(_decided(middle), _decided(draws))}


def _decided(shares: np.ndarray) -> np.ndarray:
    wins, both = shares[..., 0], shares[..., 0] + shares[..., 1]
    return np.where(both > 0, wins / np.where(both > 0, both, 1), 0.5)


def _estimate(value: Any, draws: np.ndarray) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))


def tables(
    results: Mapping[str, Mapping[str, Any]], published: Mapping[str, Mapping[str, str]] | None = None
) -> list[str]:
    """The arms as Markdown tables: means, changes against the baseline, wins, changes against the first arm.

    Last, what others have `published` of "decided" and "accuracy", next to the first arm.
    """
    arms = [arm for arm in results if arm != BASELINE]
    rows = {arm: [found["own"][name].text(name) for name in _SHOWN] for arm, found in results.items()}
    parts = [_table("arm", _SHOWN, rows)]
    names = ("accuracy", "supporting", "untrue", "tokens")
    for side, title in ((BASELINE, "− baseline"), ("first", f"− {_spaced(arms[0])}")):
        compared = {arm: results[arm][side] for arm in arms if results[arm][side]}
        if compared:
            rows = {arm: [own[n].text(n, signed=True) for n in names] for arm, own in compared.items()}
            parts.append(_table(title, names, rows))
    wins = ("decided", *_VERDICTS)
    rows = {arm: [results[arm][BASELINE][name].text(name) for name in wins] for arm in arms}
    parts.insert(2, _table("against the baseline", ("wins of the decided", *_VERDICTS), rows))
    if published:
        both = {
            source: [row.get(name, "") for name in ("decided", "accuracy")]
            for source, row in published.items()
        }
        own = results[arms[0]][BASELINE]
        both[arms[0]] = [own["decided"].text("decided"), own["accuracy"].text("accuracy", signed=True)]
        parts.append(_table("published and ours", ("wins of the decided", "accuracy"), both))
    return parts


def _table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    lines = [[title, *columns], *([_spaced(arm), *cells] for arm, cells in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _spaced(arm: str) -> str:
    return arm.replace("_", " ")


def seconds(trials: Sequence[Trial]) -> float:
    """The seconds of all steps of the trials, each shared one once."""
    entries = [entry for trial in trials for entry in read_manifest(run_folder(trial.config)).values()]
    shared = {entry.shared for entry in entries if entry.shared}
    own = sum(entry.seconds for entry in entries if not entry.shared)
    return own + sum(read_entry(Path(folder) / "entry.json").seconds for folder in shared)
