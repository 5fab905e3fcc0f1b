"""Renders pages: one HTML file each that needs nothing else; only the browser of questions needs JavaScript."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ares.charts import Chart, line_chart, number
from ares.pipeline.manifest import StepEntry
from ares.report.benchmarks import BenchmarkResult
from ares.report.headline import HeadlineNumber, duration, percent, shown
from ares.report.questions import Browser
from ares.report.selection import Selection
from ares.storage.files import atomic_path

LARGEST = 9_500_000  # bytes of a page


@dataclass(frozen=True)
class AccuracyRow:
    """Percent of right answers in a category, without and with ARES; None where unknown or without a question."""

    category: str
    without: float | None
    with_ares: float | None
    counts: int


@dataclass(frozen=True)
class Reproduction:
    """What made the steps: commands, commits of the source, machines and versions, as text."""

    commands: Sequence[str]
    commits: Sequence[str]
    machines: Sequence[str]
    versions: Sequence[str]


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows but the browser of questions. Sections without data say so.

    run, created: the run's name and the report's date, as text. config: the settings shown at the top.
    inputs_hash: the hash of the steps that the report covers.
    curves: step -> metric -> [[x, y], ...], x in optimizer steps. policies: policy -> metrics of its assessment.
    failed: outputs without exactly one answer. closeness: measures of `ares.evaluation.rationales`, in [0, 1],
    without and with ARES. calibration: the chart of each step that trained a reward model. benchmarks: one result each.
    """

    run: str
    created: str
    config: Mapping[str, Any]
    inputs_hash: str
    headline: Sequence[HeadlineNumber]
    steps: Mapping[str, StepEntry]
    curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]
    policies: Mapping[str, Mapping[str, float]]
    accuracy: Sequence[AccuracyRow]
    failed: int | None
    closeness: Sequence[Mapping[str, float]]
    reproduction: Reproduction
    selection: Selection | None = None
    calibration: Mapping[str, Chart] = field(default_factory=dict)
    benchmarks: Sequence[BenchmarkResult] = ()


def render_report(data: ReportData, path: Path | str, browser: Callable[[int], Browser]) -> None:
    """Writes the report to `path`, atomically; the same data gives the same bytes.

    `browser(limit)` gives the questions that fit into `limit` bytes, so that the page stays below LARGEST.
    """
    write_page(
        "report.html.j2",
        path,
        browser,
        **vars(data),
        longest=max((step.seconds for step in data.steps.values()), default=0.0),
        charts=_with_calibration(charts_of(data.curves), data.calibration),
        measures=list(dict.fromkeys(name for metrics in data.policies.values() for name in metrics)),
    )


def _with_calibration(
    charts: dict[str, list[Chart]], calibration: Mapping[str, Chart]
) -> dict[str, list[Chart]]:
    own = {step: [*charts.get(step, []), chart] for step, chart in calibration.items()}
    return {**charts, **own}


def write_page(template: str, path: Path | str, browser: Callable[[int], Browser], **values: object) -> None:
    """Renders a template with the questions that fit next to the rest of the page."""
    page = environment().get_template(template)
    rest = page.render(**values, browser=Browser([], {}, 0))
    html = page.render(**values, browser=browser(max(0, LARGEST - len(rest.encode()))))
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


@cache
def environment() -> Any:
    """The templates of this package."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = Path(__file__).parent / "templates"
    found = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": number, "duration": duration, "percent": percent}
    found.globals |= {
        "shown": shown,
        "file": lambda name: Markup((folder / name).read_text(encoding="utf-8")),  # noqa: S704  # our own files
    }
    return found
