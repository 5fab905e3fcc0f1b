"""Selection at test time in the report: accuracy by rule and number of candidates, as a table and a drawing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ares.charts import Chart, overlay
from ares.evaluation.selection import Accuracy
from ares.pipeline.manifest import StepEntry
from ares.storage.files import read_json

_DRAWN = 6  # rules that differ in color


@dataclass(frozen=True)
class Selection:
    """Rows by rule, one for each of `numbers`; `chart` draws the first rules, None for a single number of candidates."""

    split: str
    questions: int
    numbers: Sequence[int]
    rules: Mapping[str, Sequence[Accuracy]]
    chart: Chart | None

    @property
    def drawn(self) -> list[str]:
        """The rules in the drawing."""
        return list(self.rules)[:_DRAWN]


def selection_of(root: Path, steps: Mapping[str, StepEntry]) -> Selection | None:
    """What the step `select` of a run wrote, None without it."""
    if "final/select" not in steps:
        return None
    found = read_json(root / steps["final/select"].outputs["selection"].path)
    rules: dict[str, list[Accuracy]] = {}
    for row in found["rows"]:
        rules.setdefault(row["by"], []).append(Accuracy(**row))
    numbers = [row.n for row in next(iter(rules.values()), [])]
    return Selection(found["split"], found["questions"], numbers, rules, _chart(rules))


def _chart(rules: Mapping[str, Sequence[Accuracy]]) -> Chart | None:
    curves = [[(row.n, row.accuracy) for row in rows] for rows in list(rules.values())[:_DRAWN]]
    chart = overlay("accuracy, %", curves) if curves and len(curves[0]) > 1 else None
    if chart is None:
        return None
    marks = [replace(mark, label=mark.label.removeprefix("step ")) for mark in chart.marks]
    return replace(chart, x_name="candidates", marks=tuple(marks))
