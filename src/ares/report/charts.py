"""The geometry of small line charts, ready for an SVG template."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 320, 176
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 34
MAX_POINTS = 120  # more cannot be told apart at this width
FEW_POINTS = 16  # so few are marked with dots


@dataclass(frozen=True)
class Mark:
    """A point of the curve: its place, its value as text, and the band of the chart that shows it on hover."""

    x: float
    y: float
    label: str
    band: float
    band_width: float


@dataclass(frozen=True)
class Chart:
    """A curve in a viewBox of WIDTH x HEIGHT. Ticks are (place, label); `first` and `last` are values as text."""

    name: str
    line: str
    marks: tuple[Mark, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    dots: bool
    first: str
    last: str


def line_chart(name: str, points: Sequence[Sequence[float]]) -> Chart | None:
    """A chart of (x, y) points in order of x; None without a finite point. Long curves are thinned evenly."""
    finite = [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return None
    kept = thin(sorted(finite, key=lambda point: point[0]), MAX_POINTS)
    xs, ys = [x for x, _ in kept], [y for _, y in kept]
    x_low, x_high = _range(min(xs), max(xs), margin=0.0)
    y_low, y_high = _range(min(ys), max(ys), margin=0.06)

    def right(x: float) -> float:
        return round(LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT), 1)

    def down(y: float) -> float:
        return round(HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM), 1)

    places = [(right(x), down(y)) for x, y in kept]
    labels = [f"step {number(x)}: {number(y)}" for x, y in kept]
    return Chart(
        name=name,
        line=" ".join(f"{x},{y}" for x, y in places),
        marks=_marks(places, labels),
        x_ticks=tuple((right(tick), number(tick)) for tick in ticks(x_low, x_high, whole=True)),
        y_ticks=tuple((down(tick), number(tick)) for tick in ticks(y_low, y_high)),
        dots=len(kept) <= FEW_POINTS,
        first=number(finite[0][1]),
        last=number(finite[-1][1]),
    )


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
    """A figure as text: four significant digits, thousands set apart, an en dash for what is missing."""
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


def _marks(places: Sequence[tuple[float, float]], labels: Sequence[str]) -> tuple[Mark, ...]:
    # Each point owns the band of the chart that is nearer to it than to its neighbours.
    xs = [x for x, _ in places]
    middles = [(a + b) / 2 for a, b in pairwise(xs)]
    edges = [float(LEFT), *middles, float(WIDTH - RIGHT)]
    return tuple(
        Mark(x, y, label, round(start, 1), round(max(end - start, 0.1), 1))
        for (x, y), label, (start, end) in zip(places, labels, pairwise(edges), strict=True)
    )
