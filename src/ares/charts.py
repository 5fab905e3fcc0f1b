"""Charts as SVG: the curve of a metric, and bars for a table of numbers. The only SVG writer of the suite."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from statistics import median

WIDTH, HEIGHT = 320, 176
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 34
MAX_POINTS = 120  # more cannot be distinguished at this width
FEW_POINTS = 16  # up to so many are marked with dots
_WINDOW, _SPIKE, _BEYOND, _SHARE = 3, 10, 2, 0.05  # see `outliers`
_MARKED = 20  # outliers that are drawn, the largest
_ROW, _NAME, _BAR, _NUMBER = 22, 300, 150, 60  # of the bars: heights and widths


@dataclass(frozen=True)
class Mark:
    """A point of the curve, its value as text, and the band of the chart that shows it on hover.

    An `outlier` lies beyond the scale; it is drawn as a triangle at the edge.
    """

    x: float
    y: float
    label: str
    band: float
    band_width: float
    outlier: bool = False

    @property
    def svg(self) -> str:
        """The parts that show on hover."""
        bottom = HEIGHT - BOTTOM
        anchor = "start" if self.x < 110 else "end" if self.x > 250 else "middle"
        way = 1 if self.y < (TOP + bottom) / 2 else -1
        triangle = f"{self.x},{self.y} {self.x - 4},{self.y + 7 * way} {self.x + 4},{self.y + 7 * way}"
        drawn = _element("polygon", class_="outlier", points=triangle) if self.outlier else ""
        return drawn + _element(
            "g",
            _element("rect", x=self.band, y=0, width=self.band_width, height=bottom),
            _element("line", x1=self.x, x2=self.x, y1=TOP, y2=bottom),
            _element("circle", cx=self.x, cy=self.y, r=3.5),
            _text(self.x, TOP - 3, self.label, text_anchor=anchor),
            class_="point",
        )


@dataclass(frozen=True)
class Chart:
    """A curve in a viewBox of WIDTH x HEIGHT. Ticks are (position, label); `first` and `last` are values as text.

    `note`: what the drawing leaves out, as text.
    """

    name: str
    line: str
    marks: tuple[Mark, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    dots: bool
    first: str
    last: str
    extent: tuple[float, float, float, float]
    note: str = ""
    others: tuple[str, ...] = ()  # further lines on the same scale
    x_name: str = "optimizer step"

    @property
    def svg(self) -> str:
        """The drawing, styled by the page that holds it (classes grid, dot, point)."""
        bottom, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) // 2
        parts = []
        for y, label in self.y_ticks:
            parts.append(_element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
            parts.append(_text(LEFT - 5, y + 3.5, label, text_anchor="end"))
        for x, label in self.x_ticks:
            anchor = "end" if x > WIDTH - 24 else "middle"
            parts.append(_text(x, bottom + 14, label, text_anchor=anchor))
        parts.append(_text(middle, HEIGHT - 4, self.x_name, text_anchor="middle"))
        for i, line in enumerate(self.others, start=1):
            parts.append(_element("polyline", class_=f"run-{i}", points=line))
        if len(self.marks) > 1:
            parts.append(_element("polyline", points=self.line))
        if self.dots:
            parts += [_element("circle", class_="dot", cx=mark.x, cy=mark.y, r=2.6) for mark in self.marks]
        parts += [mark.svg for mark in self.marks]
        label = (
            f"{self.name} by {self.x_name}, from {self.first} to {self.last}{self.note and '; '}{self.note}"
        )
        return _element("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)


def overlay(name: str, curves: Sequence[Sequence[Sequence[float]]]) -> Chart | None:
    """The first curve as a chart, the others as further lines on the same scale; None if one has no finite point."""
    charts = [line_chart(name, points) for points in curves]
    extents = [chart.extent for chart in charts if chart]
    if len(extents) < len(curves):
        return None
    lows, highs = [[pick(own) for own in zip(*extents, strict=True)] for pick in (min, max)]
    extent = (lows[0], highs[1], lows[2], highs[3])
    first, *others = [line_chart(name, points, extent) for points in curves]
    assert first
    return replace(first, others=tuple(other.line for other in others if other))


def line_chart(
    name: str, points: Sequence[Sequence[float]], extent: tuple[float, float, float, float] | None = None
) -> Chart | None:
    """A chart of (x, y) points in order of x; None without a finite point.

    Long curves are thinned evenly; outliers are kept and drawn at the edge, so that they do not flatten the rest.
    `extent` (least and largest x, least and largest y) replaces the curve's own.
    """
    finite = sorted((float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y))
    if not finite:
        return None
    beyond = {finite[i] for i in outliers([y for _, y in finite])}
    inside = [point for point in finite if point not in beyond]
    kept = sorted({*thin(inside, MAX_POINTS), *sorted(beyond, key=lambda point: -abs(point[1]))[:_MARKED]})
    ys = [y for _, y in inside]
    extent = extent or (finite[0][0], finite[-1][0], min(ys), max(ys))
    x_low, x_high = _range(*extent[:2], margin=0.0)
    y_low, y_high = _range(*extent[2:], margin=0.06)

    def right(x: float) -> float:
        return round(LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT), 1)

    def down(y: float) -> float:
        part = min(1.0, max(0.0, (y - y_low) / (y_high - y_low)))
        return round(HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM), 1)

    places = [(right(x), down(y)) for x, y in kept]
    labels = [f"step {number(x)}: {number(y)}" for x, y in kept]
    return Chart(
        name=name,
        line=" ".join(f"{x},{y}" for x, y in places),
        marks=_marks(places, labels, [point in beyond for point in kept]),
        x_ticks=tuple((right(tick), number(tick)) for tick in ticks(x_low, x_high, whole=True)),
        y_ticks=tuple((down(tick), number(tick)) for tick in ticks(y_low, y_high)),
        dots=len(kept) <= FEW_POINTS,
        first=number(finite[0][1]),
        last=number(finite[-1][1]),
        note=_note(len(beyond), len(points) - len(finite)),
        extent=extent,
    )


def _note(beyond: int, lost: int) -> str:
    notes = [f"{beyond} beyond the scale" * bool(beyond), f"{lost} not finite" * bool(lost)]
    return ", ".join(filter(None, notes))


def outliers(values: Sequence[float]) -> list[int]:
    """The indices of isolated spikes that would flatten the rest of a curve.

    A spike is more than _SPIKE times as far from the median of its neighborhood as usual, and beyond the range of the
    other values by more than _BEYOND times that range. More than a share of _SHARE are no outliers.
    """
    near = [median(values[max(0, i - _WINDOW) : i + _WINDOW + 1]) for i in range(len(values))]
    distances = [abs(value - middle) for value, middle in zip(values, near, strict=True)]
    usual = median(distances)
    rest = [value for value, far in zip(values, distances, strict=True) if far <= _SPIKE * usual]
    room = _BEYOND * (max(rest) - min(rest))
    found = [i for i, value in enumerate(values) if not min(rest) - room <= value <= max(rest) + room]
    return found if room > 0 and len(found) <= _SHARE * len(values) else []


def bar_chart(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """A table as SVG: for each named row one bar per column, its length relative to the column's largest value."""
    width, height = _NAME + len(columns) * (_BAR + _NUMBER), (len(rows) + 2) * _ROW
    parts = [_element("rect", width=width, height=height, fill="white")]
    for i, column in enumerate(columns):
        left = _NAME + i * (_BAR + _NUMBER)
        parts.append(_text(left, _ROW - 6, column, font_weight="bold"))
        largest = max((abs(values[i] or 0.0) for _, values in rows), default=0.0) or 1.0
        for top, (_, values) in zip(range(_ROW, height, _ROW), rows, strict=False):
            length = round(_BAR * abs(values[i] or 0.0) / largest, 1)
            parts.append(_element("rect", x=left, y=top, width=length, height=_ROW - 8, fill="#4477aa"))
            parts.append(_text(left + length + 4, top + 11, number(values[i])))
    parts += [_text(4, (j + 1) * _ROW + 11, name) for j, (name, _) in enumerate(rows)]
    font = {"font_family": "system-ui, sans-serif", "font_size": 12}
    return _element("svg", *parts, xmlns="http://www.w3.org/2000/svg", width=width, height=height, **font)


def _element(tag: str, *children: str, **attributes: object) -> str:
    """An element; `class_` and underscores stand for `class` and hyphens. Children are markup, attributes text."""
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    written = "".join(f' {names[name]}="{escape(str(value))}"' for name, value in attributes.items())
    return f"<{tag}{written}>{''.join(children)}</{tag}>" if children else f"<{tag}{written}/>"


def _text(x: float, y: float, content: str, **attributes: object) -> str:
    return _element("text", escape(content), x=x, y=y, **attributes)


def thin(points: Sequence[tuple[float, float]], limit: int) -> list[tuple[float, float]]:
    """At most `limit` points, evenly spread by index, the first and the last among them."""
    if len(points) <= limit:
        return list(points)
    return [points[round(i * (len(points) - 1) / (limit - 1))] for i in range(limit)]


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Between 2 and 6 round values (1, 2 or 5 times a power of ten apart) in [low, high]; `whole`: integers only."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    if whole:
        step = max(1.0, step)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    # Products of the step, not running sums, so that 0.3 is not 0.30000000000000004.
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def number(value: float | None) -> str:
    """A number as text: four significant digits, thousands set apart, an en dash for a missing value."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "−")
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def _range(low: float, high: float, *, margin: float) -> tuple[float, float]:
    largest = max(abs(low), abs(high))
    if high - low <= max(1e-9 * largest, 1e-200):
        half = largest * 0.1 if largest > 1e-200 else 1.0
        return low - half, high + half
    extra = (high - low) * margin
    return low - extra, high + extra


def _marks(
    places: Sequence[tuple[float, float]], labels: Sequence[str], beyond: Sequence[bool]
) -> tuple[Mark, ...]:
    # Each point owns the band of the chart that is nearer to it than to its neighbors.
    xs = [x for x, _ in places]
    middles = [(a + b) / 2 for a, b in pairwise(xs)]
    edges = [float(LEFT), *middles, float(WIDTH - RIGHT)]
    return tuple(
        Mark(x, y, label, round(start, 1), round(max(end - start, 0.1), 1), outlier)
        for (x, y), label, outlier, (start, end) in zip(places, labels, beyond, pairwise(edges), strict=True)
    )
