"""The report of a run: one HTML file that needs nothing else, neither network nor JavaScript."""

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from ares.charts import Chart, line_chart, number
from ares.evaluation.assessment import Assessment
from ares.pipeline.manifest import StepEntry
from ares.storage.files import atomic_path
from ares.types import Problem

_IMAGE_TYPES = ("PNG", "JPEG", "GIF", "WEBP")  # those that browsers show


class HeadlineNumber(TypedDict):
    """One headline number as text: `value` includes its unit; `note` states the sample."""

    label: str
    value: str
    note: str


class ReportData(TypedDict):
    """Everything a report shows. Sections without data say so.

    run, created: the run's name and the report's date, as text. config: the settings shown at the top.
    inputs_hash: the hash of the steps that the report covers.
    curves: step -> metric -> [[x, y], ...], x in optimizer steps. policies: policy -> metrics of its assessment.
    examples: problems with their rationales before and after.
    accuracy: category -> percent or None. counts: category -> questions. failed: outputs without exactly one answer.
    rationale_metrics: measures of `ares.evaluation.rationales`, in [0, 1].
    """

    run: str
    created: str
    config: Mapping[str, Any]
    inputs_hash: str
    headline: Sequence[HeadlineNumber]
    steps: Mapping[str, StepEntry]
    curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]
    policies: Mapping[str, Mapping[str, float]]
    examples: Sequence[tuple[Problem, Assessment, Assessment]]
    accuracy: Mapping[str, float | None] | None
    counts: Mapping[str, int] | None
    failed: int | None
    rationale_metrics: Mapping[str, float] | None


def render_report(data: ReportData, path: Path | str) -> None:
    """Writes the report to `path`, atomically; the same data gives the same bytes."""
    longest = max((step.seconds for step in data["steps"].values()), default=0.0)
    html = _template().render(
        **{key: value for key, value in data.items() if key not in ("curves", "examples")},
        longest=longest,
        charts=charts_of(data["curves"]),
        examples=[_example_view(*example) for example in data["examples"]],
        measures=list(dict.fromkeys(name for metrics in data["policies"].values() for name in metrics)),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def charts_of(curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> dict[str, list[Chart]]:
    """The charts of every step that has any; the step's key is cut from metric names."""
    found = {}
    for step, metrics in curves.items():
        # A single value is no curve; it is shown with the step's metrics.
        curved = {name: points for name, points in metrics.items() if len(points) > 1}
        charts = [line_chart(name.removeprefix(f"{step}/"), points) for name, points in curved.items()]
        if drawn := [chart for chart in charts if chart is not None]:
            found[step] = drawn
    return found


def duration(seconds: float) -> str:
    """Seconds in the two largest of hours, minutes and seconds; no line breaks between a number and its unit."""
    if seconds < 59.95:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u00a0h {minutes}\u00a0min" if hours else f"{minutes}\u00a0min {rest}\u00a0s"


def _example_view(problem: Problem, before: Assessment, after: Assessment) -> dict[str, Any]:
    known = before.quality is not None and after.quality is not None
    return {
        "problem": problem,
        "images": [address for path in problem.images if (address := data_uri(path))],
        "sides": [("Before", before), ("After", after)],
        "gain": after.quality - before.quality if known else None,  # type: ignore[operator]
    }


def data_uri(path: Path | str) -> str | None:
    """An image file as a `data:` address; None where it is absent or not png, jpeg, gif or webp."""
    from PIL import Image

    path = Path(path)
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in _IMAGE_TYPES or not path.is_file():
        return None
    return f"data:{Image.MIME[kind]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "duration": duration}
    return environment.get_template("template.html.j2")
