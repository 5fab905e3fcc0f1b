"""The results of a sweep's jobs as a table and a bar chart."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ares.charts import bar_chart, number
from ares.pipeline.manifest import StepEntry, read_entry, read_manifest
from ares.storage.files import atomic_path, write_json

# The metrics of a job by column: the last step whose key matches, the metric's name, and the sign to show it with.
COLUMNS = {
    "supporting": ("round-*/assess", "supporting", 1),
    "supporting before": ("rationale/assess", "supporting", 1),
    "ROUGE-L": ("round-*/assess", "rouge_l", 1),
    "ROUGE-L before": ("rationale/assess", "rouge_l", 1),
    # On rollouts of the reference this is KL(reference || policy); the mean of k3 can be dominated by a single token.
    "KL (-k1)": ("round-*/ppo", "train/kl_k1", -1),
    "KL": ("round-*/prefer", "train/kl", 1),
    "pair accuracy": ("round-*/prefer", "heldout/accuracy", 1),
    "repetition": ("round-*/assess", "repetition", 1),
    "accuracy": ("final/evaluate", "accuracy/AVG", 1),
}


def job_row(name: str, setting: Mapping[str, str], root: Path, failed: bool) -> dict[str, Any]:
    """One job's row: setting, state, metrics (None if absent), and the seconds and Teacher requests of its own steps.

    `shared` maps the folder of each shared step to its number of requests.
    """
    steps = read_manifest(root)
    own = [entry for entry in steps.values() if not entry.shared]
    shared = {entry.shared: _requests(entry.shared) for entry in steps.values() if entry.shared}
    return {
        "job": name,
        "setting": dict(setting),
        "state": "failed" if failed else "done",
        "metrics": {column: _metric(steps, *where) for column, where in COLUMNS.items()},
        "seconds": sum(entry.seconds for entry in own),
        "requests": sum(entry.requests for entry in own),
        "shared": shared,
    }


def _requests(folder: str) -> int:
    return read_entry(Path(folder) / "entry.json").requests


def _metric(steps: Mapping[str, StepEntry], pattern: str, name: str, sign: int) -> float | None:
    found = [entry.metrics.get(name) for key, entry in steps.items() if fnmatch(key, pattern)]
    return None if not found or found[-1] is None else sign * found[-1]


def write_sweep(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Writes sweep.json, sweep.md and sweep.svg; returns the table as text."""
    columns = [c for c in COLUMNS if any(row["metrics"][c] is not None for row in rows)]
    text = table(rows, columns)
    bars = [(row["job"], [row["metrics"][c] for c in columns]) for row in rows]
    write_json(folder / "sweep.json", list(rows))
    for name, content in (("sweep.md", text), ("sweep.svg", bar_chart(columns, bars))):
        with atomic_path(folder / name) as path:
            path.write_text(content + "\n", encoding="utf-8")
    return f"{text}\n{folder / 'sweep.svg'}"


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """The jobs as a Markdown table, and the number of Teacher requests."""
    head = ["job", "state", *columns, "seconds"]
    cells = [
        [row["job"], row["state"], *(number(row["metrics"][c]) for c in columns), f"{row['seconds']:.0f}"]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *cells]
    body = "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
    shared = {folder: requests for row in rows for folder, requests in row["shared"].items()}
    own = sum(row["requests"] for row in rows)
    return (
        f"{body}\n\nTeacher requests: {sum(shared.values())} in {len(shared)} shared steps, once for all jobs; "
        f"{own} in the {len(rows)} jobs themselves."
    )
