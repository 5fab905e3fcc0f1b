"""The results of a sweep's jobs as a table and a bar chart."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ares.pipeline.manifest import StepEntry, read_manifest
from ares.storage.files import atomic_path, read_json, write_json

# The metric in each column: the step it comes from, its name there, and the sign to show it with.
COLUMNS = {
    "score": ("ppo", "after/score_per_sentence", 1),
    "score before": ("ppo", "before/score_per_sentence", 1),
    # On rollouts of the reference this is KL(reference || policy). The mean of k3 can hang on a single token there.
    "KL (-k1)": ("ppo", "train/kl_k1", -1),
    "repetition": ("ppo", "after/repetition", 1),
    "accuracy": ("evaluate", "accuracy/AVG", 1),
}
_ROW, _NAME, _BAR, _TEXT = 22, 300, 150, 60


def job_row(name: str, setting: Mapping[str, str], root: Path, failed: bool) -> dict[str, Any]:
    """One job's row: its setting, state, metrics (None where it has none), seconds and Teacher requests of its own.

    `shared` maps the folder of each step that ran once for all jobs to its number of requests.
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
    return read_json(Path(folder) / "entry.json")["requests"]


def _metric(steps: Mapping[str, StepEntry], step: str, name: str, sign: int) -> float | None:
    found = [e.metrics.get(name) for key, e in steps.items() if key.endswith(f"/{step}")]
    return None if not found or found[-1] is None else sign * found[-1]


def write_sweep(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Writes sweep.json, sweep.md and sweep.svg; returns the table as text."""
    columns = [c for c in COLUMNS if any(row["metrics"][c] is not None for row in rows)]
    text = table(rows, columns)
    write_json(folder / "sweep.json", list(rows))
    for name, content in (("sweep.md", text), ("sweep.svg", picture(rows, columns))):
        with atomic_path(folder / name) as path:
            path.write_text(content + "\n", encoding="utf-8")
    return f"{text}\n{folder / 'sweep.svg'}"


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """The jobs as a Markdown table, and what the Teacher was asked."""
    head = ["job", "state", *columns, "seconds"]
    cells = [
        [row["job"], row["state"], *(_text(row["metrics"][c]) for c in columns), f"{row['seconds']:.0f}"]
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


def picture(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """The table as SVG: a bar for each metric of each job, relative to the largest in its column."""
    width = _NAME + len(columns) * (_BAR + _TEXT)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{(len(rows) + 2) * _ROW}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{(len(rows) + 2) * _ROW}" fill="white"/>',
    ]
    for i, column in enumerate(columns):
        left = _NAME + i * (_BAR + _TEXT)
        parts.append(f'<text x="{left}" y="{_ROW - 6}" font-weight="bold">{escape(column)}</text>')
        largest = max((abs(row["metrics"][column] or 0.0) for row in rows), default=0.0) or 1.0
        for j, row in enumerate(rows, start=1):
            value = row["metrics"][column]
            length = round(_BAR * abs(value or 0.0) / largest, 1)
            parts.append(
                f'<rect x="{left}" y="{j * _ROW}" width="{length}" height="{_ROW - 8}" fill="#4477aa"/>'
                f'<text x="{left + length + 4}" y="{j * _ROW + 11}">{_text(value)}</text>'
            )
    for j, row in enumerate(rows, start=1):
        parts.append(f'<text x="4" y="{j * _ROW + 11}">{escape(row["job"])}</text>')
    return "\n".join([*parts, "</svg>"])


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
