"""report: one page with the figures and curves of every step and what became of the rationales."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ares.config.commands import command
from ares.config.schema import Config
from ares.evaluation.statistics import paired_bootstrap, share_interval
from ares.report.page import Figure, duration, render_report
from ares.steps.common.curves import rows_of
from ares.steps.common.inputs import logs_folder, require_own_data
from ares.steps.ppo import scored
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import hash_of, read_json, read_jsonl, write_json
from ares.storage.tables import read_rationales
from ares.types import AresError, Problem


def report(config: Config, root: Path) -> Path:
    """Writes `metrics.json` and `report.html` from whatever steps of the run have ended.

    Raises AresError where none has, and where they were made from other data than the configuration's.
    """
    if not (root / "manifest.json").exists():
        raise AresError(
            f"{root} holds no finished step to report on; run `{command('ares', run=config.run)}`."
        )
    steps = read_json(root / "manifest.json")["steps"]
    require_own_data(config, root, steps)
    scores = read_json(root / "final/scores.json") if "final/evaluate" in steps else None
    figures = {key: entry["metrics"] for key, entry in steps.items()}
    write_json(root / "metrics.json", {**(scores or {}), "steps": figures})
    rows = _evaluated(root, steps)
    data = {
        "run": config.run,
        "created": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "config": _summary(root),
        "inputs_hash": hash_of({key: entry["hash"] for key, entry in steps.items()}),
        "figures": headline(steps, rows, scores),
        "steps": [_step(key, entry) for key, entry in steps.items()],
        "curves": {
            key: found for key in steps if (found := read_curves(logs_folder(root, key) / "metrics.csv"))
        },
        "examples": _examples(config, root, rows, steps),
        "accuracy": scores["accuracy"] if scores else None,
        "counts": scores["counts"] if scores else None,
        "failed": scores["failed_extractions"] if scores else None,
        "rationale_metrics": scores["rationales"] if scores else None,
    }
    path = root / "report.html"
    render_report(data, path)  # type: ignore[arg-type]
    return path


def read_curves(path: Path) -> dict[str, list[list[float]]]:
    """The columns of a metrics.csv as {name: [[step, value], ...]}; empty where there is no file."""
    curves: dict[str, list[list[float]]] = {}
    for row in rows_of(path):
        for name, value in row.items():
            if value and name not in ("step", "epoch") and not name.endswith("/epoch"):
                curves.setdefault(name, []).append([float(row["step"]), float(value)])
    return curves


def _summary(root: Path) -> dict[str, Any]:
    # Not of the command line that makes the page, but of the one that made its steps.
    made: Any = OmegaConf.to_container(OmegaConf.load(root / "config.yaml"))
    groups = {name: made[name]["name"] for name in ("data", "model", "features", "teacher")}
    return {**groups, "rounds": made["rounds"], "seed": made["seed"]}


def _step(key: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": key,
        "seconds": entry["seconds"],
        "usd": entry["usd"],
        "requests": entry["requests"],
        "inputs": {name: value["sha256"] for name, value in entry["inputs"].items()},
        "outputs": {name: value["sha256"] for name, value in entry["outputs"].items()},
        "metrics": entry["metrics"],
    }


def _evaluated(root: Path, steps: dict[str, Any]) -> list[dict[str, Any]]:
    # The first round's "before" is the policy before any RL.
    first = next((entry for entry in steps.values() if "evaluation" in entry["outputs"]), None)
    return read_jsonl(root / first["outputs"]["evaluation"]["path"]) if first else []


def _mean_scores(rows: list[dict[str, Any]], side: str) -> list[float]:
    return [
        sum(row[side]["scores"]) / len(row[side]["scores"]) if row[side]["scores"] else 0.0 for row in rows
    ]


def headline(
    steps: dict[str, Any], rows: list[dict[str, Any]], scores: dict[str, Any] | None
) -> list[Figure]:
    """The figures at the head of the page: gain of RL, accuracy, direct answers, money and time, where known."""
    found = [_gain(rows)] if rows else []
    if scores:
        found += _answers(scores)
    seconds = sum(entry["seconds"] for entry in steps.values())
    usd = sum(entry["usd"] for entry in steps.values())
    requests = sum(entry["requests"] for entry in steps.values())
    found.append({"label": "Teacher", "value": f"${usd:.2f}", "note": f"{requests:,} requests"})
    found.append({"label": "Time", "value": duration(seconds), "note": f"{len(steps)} steps"})
    return found


def _gain(rows: list[dict[str, Any]]) -> Figure:
    before, after = _mean_scores(rows, "before"), _mean_scores(rows, "after")
    gain, low, high = paired_bootstrap(before, after, seed=0)
    note = (
        f"{sum(before) / len(before):.3f} → {sum(after) / len(after):.3f} on a scale from 0 to 1, mean of "
        f"{len(rows):,} val rationales; 95\u00a0% interval {_signed(low)} to {_signed(high)}"
    )
    return {"label": "Score gained by RL", "value": _signed(gain), "note": note}


def _answers(scores: dict[str, Any]) -> list[Figure]:
    average, questions = scores["accuracy"]["AVG"], scores["questions"]
    low, high = share_interval(round(average / 100 * questions), questions)
    note = (
        f"{questions:,} {scores['split']} questions; 95\u00a0% interval {100 * low:.1f} to {100 * high:.1f}"
    )
    if scores["majority"] is not None:
        note += f"; always the most frequent choice: {scores['majority']:.2f}\u00a0%"
    found: list[Figure] = [{"label": "Accuracy", "value": f"{average:.2f}\u00a0%", "note": note}]
    if scores["direct_answer"] is not None:
        note = "VQA accuracy of the chosen options' texts, difficult questions left out"
        found.append(
            {"label": "Direct answers", "value": f"{scores['direct_answer']:.2f}\u00a0%", "note": note}
        )
    return found


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _examples(
    config: Config, root: Path, rows: list[dict[str, Any]], steps: dict[str, Any]
) -> list[dict[str, Any]]:
    if not rows:
        return []
    problems, _ = read_problems(config.data, prepared(config, make=False)["data"])
    last = {}
    if "final/generate" in steps:
        final = {row.pid: row for row in read_rationales(root / "final/rationales-val.parquet")}
        last = {row["pid"]: scored(problems[row["pid"]], final[row["pid"]]) for row in rows}
    # A fixed draw by hash: neither the best nor the worst.
    ordered = sorted(rows, key=lambda row: hash_of(row["pid"]))[: config.report.examples]
    return [
        _example(problems[row["pid"]], row["before"], last.get(row["pid"], row["after"])) for row in ordered
    ]


def _example(problem: Problem, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    def sentences(side: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"text": t, "score": s} for t, s in zip(side["sentences"], side["scores"], strict=True)]

    image = problem.image if problem.image is not None and problem.image.exists() else None
    return {
        "pid": problem.pid,
        "question": problem.question,
        "choices": list(problem.choices),
        "answer": problem.answer,
        "hint": problem.hint,
        "image": None if image is None else str(image),
        "before": sentences(before),
        "after": sentences(after),
    }
