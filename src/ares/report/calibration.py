"""How the scores of a reward model compare with those of the Teacher, drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ares.charts import Chart, line_chart
from ares.evaluation.agreement import calibration
from ares.pipeline.manifest import StepEntry
from ares.storage.files import read_jsonl

_NAME = (
    "held-out sentences: the Teacher's mean score (up) by the predicted score (right); the line is perfect"
)
_UNIT = (0.0, 1.0, 0.0, 1.0)


def calibration_charts(root: Path, steps: Mapping[str, StepEntry]) -> dict[str, Chart]:
    """The chart of each step that trained a reward model on scores."""
    found = {}
    for key, entry in steps.items():
        if "held-out" in entry.outputs:
            rows = read_jsonl(root / entry.outputs["held-out"].path)
            predicted = [value for row in rows for value in row["predicted"]]
            scores = [value for row in rows for value in row["scores"]]
            if chart := calibration_chart([(x, y) for x, y, _ in calibration(predicted, scores)]):
                found[key] = chart
    return found


def calibration_chart(points: Sequence[tuple[float, float]]) -> Chart | None:
    """Mean scores by mean predictions, with the diagonal; None without any."""
    chart, perfect = line_chart(_NAME, points, _UNIT), line_chart("", [(0, 0), (1, 1)], _UNIT)
    if chart is None or perfect is None:
        return None
    marks = tuple(replace(mark, label=mark.label.replace("step", "predicted", 1)) for mark in chart.marks)
    return replace(chart, marks=marks, others=(perfect.line,), dots=True)
