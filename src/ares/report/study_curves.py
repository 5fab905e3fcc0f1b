"""The curves of a study's first seed as one SVG: what RL, fine-tuning and the adapter log, a line per arm."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from ares.charts import HEIGHT, WIDTH, Chart, overlay
from ares.report.build import read_curves
from ares.steps.common.inputs import logs_folder

# The metrics of each step that are drawn.
_SHOWN = {"round-1/ppo": ("train/kl_k3", "train/entropy"), "round-1/sft": ("loss",), "final/lora": ("loss",)}
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8f99", "#000000")
_TITLE, _LINE = 22, 16  # heights of a chart's title and of a line of its legend
_STYLE = (
    "polyline{fill:none;stroke-width:1.6}.grid{stroke:#ddd}.dot{display:none}"
    + "".join(f".run-{i}{{stroke:{color}}}" for i, color in enumerate(_COLORS, start=1))
    + "".join(f".key-{i}{{fill:{color}}}" for i, color in enumerate(_COLORS, start=1))
)


def study_curves(roots: Mapping[str, Path]) -> str:
    """The drawing, from the run folder of each arm; arms that share a step with an earlier one have no line of their own."""
    panels = []
    for key, metrics in _SHOWN.items():
        logged = {arm: read_curves(logs_folder(root, key) / "metrics.csv") for arm, root in roots.items()}
        for name in (f"{key}/{metric}" for metric in metrics):
            curves = {arm: own[name] for arm, own in logged.items() if name in own}
            curves = dict(list(curves.items())[: len(_COLORS)])
            if curves and (chart := overlay(name, [*curves.values()])):
                panels.append((chart, list(curves)))
    return drawing(panels)


def drawing(panels: Sequence[tuple[Chart, Sequence[str]]]) -> str:
    """Charts in a row as one SVG, each with the names of its lines, which are at most eight."""
    parts = [_panel(chart, names, WIDTH * place) for place, (chart, names) in enumerate(panels)]
    height = max((_TITLE + HEIGHT + _LINE * len(names) + 8 for _, names in panels), default=0)
    font = 'font-family="system-ui, sans-serif" font-size="11"'
    size = f'width="{WIDTH * len(panels)}" height="{height}"'
    background = f'<rect {size} fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}><style>{_STYLE}</style>{background}{"".join(parts)}</svg>'


def _panel(chart: Chart, names: Sequence[str], left: int) -> str:
    """A chart with its name and legend, from x = `left`; without the marks that show values on hover."""
    drawn = replace(chart, marks=(), others=(chart.line, *chart.others)).svg
    placed = drawn.replace("<svg ", f'<svg x="0" y="{_TITLE}" width="{WIDTH}" height="{HEIGHT}" ', 1)
    legend = "".join(
        f'<rect class="key-{i}" x="46" y="{(y := _TITLE + HEIGHT + _LINE * (i - 1))}" width="10" height="10"/>'
        f'<text x="62" y="{y + 9}">{escape(name.replace("_", " "))}</text>'
        for i, name in enumerate(names, start=1)
    )
    title = f'<text x="46" y="15" font-weight="bold">{escape(chart.name)}</text>'
    return f'<g transform="translate({left} 0)">{title}{placed}{legend}</g>'
