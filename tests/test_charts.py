import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    bar_chart,
    line_chart,
    number,
    outliers,
    thin,
    ticks,
)

finite = st.floats(-1e12, 1e12, allow_nan=False)


def test_places_and_labels() -> None:
    chart = line_chart("loss", [[0, 0.0], [50, 0.5], [100, 1.0]])
    assert chart is not None
    xs, ys = [mark.x for mark in chart.marks], [mark.y for mark in chart.marks]
    assert (xs[0], xs[2]) == (LEFT, WIDTH - RIGHT)
    assert xs[1] == pytest.approx((xs[0] + xs[2]) / 2, abs=0.1)
    # Larger values lie higher, and a straight line stays straight.
    assert ys[0] > ys[1] > ys[2]
    assert ys[1] == pytest.approx((ys[0] + ys[2]) / 2, abs=0.1)
    assert [mark.label for mark in chart.marks] == ["step 0: 0", "step 50: 0.5", "step 100: 1"]
    assert (chart.first, chart.last, chart.dots) == ("0", "1", True)
    assert [label for _, label in chart.x_ticks] == ["0", "20", "40", "60", "80", "100"]
    assert chart.line == " ".join(f"{mark.x},{mark.y}" for mark in chart.marks)


def test_bands_tile_the_chart() -> None:
    chart = line_chart("loss", [[0, 1], [10, 2], [100, 3]])
    assert chart is not None
    edge = float(LEFT)
    for mark in chart.marks:
        assert mark.band == pytest.approx(edge, abs=0.11)
        assert mark.band <= mark.x <= mark.band + mark.band_width
        edge = mark.band + mark.band_width
    assert edge == pytest.approx(WIDTH - RIGHT, abs=0.11)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats()), max_size=40))
def test_every_curve_stays_inside(points: list[tuple[int, float]]) -> None:
    points = [(x, y) for x, y in points if not math.isfinite(y) or abs(y) < 1e12]
    chart = line_chart("any", points)
    assert (chart is None) == (not any(math.isfinite(y) for _, y in points))
    if chart is not None:
        for mark in chart.marks:
            assert LEFT <= mark.x <= WIDTH - RIGHT
            assert TOP <= mark.y <= HEIGHT - BOTTOM
        for place, _ in chart.y_ticks:
            assert TOP - 1e-6 <= place <= HEIGHT - BOTTOM + 1e-6


def test_a_point_and_a_constant() -> None:
    for points in ([[5, 0.25]], [[0, 0.25], [9, 0.25]], [[0, 0.0]]):
        chart = line_chart("flat", points)
        assert chart is not None
        assert len(chart.marks) == len(points)
        assert len(chart.y_ticks) >= 2
        assert chart.marks[0].y == pytest.approx((TOP + HEIGHT - BOTTOM) / 2, abs=0.1)


def test_long_curves_are_thinned_with_both_ends() -> None:
    points = [(float(i), float(i * i)) for i in range(5000)]
    kept = thin(points, MAX_POINTS)
    assert len(kept) == MAX_POINTS
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert len(set(kept)) == MAX_POINTS
    chart = line_chart("long", points)
    assert chart is not None
    assert (len(chart.marks), chart.dots) == (MAX_POINTS, False)


@given(finite, finite)
def test_ticks_are_round_and_within(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    if high - low <= 1e-6 * max(abs(low), abs(high), 1e-6):
        return
    found = ticks(low, high)
    assert 2 <= len(found) <= 6
    span = high - low
    assert all(low - 1e-6 * span <= tick <= high + 1e-6 * span for tick in found)


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.8, False, [0, 0.2, 0.4, 0.6, 0.8]),
        (-0.2, 0.64, False, [-0.2, 0.0, 0.2, 0.4, 0.6]),
        (0, 3990, True, [0, 1000, 2000, 3000]),
        (0, 2, True, [0, 1, 2]),
    ],
)
def test_ticks(low: float, high: float, whole: bool, expected: list[float]) -> None:
    assert ticks(low, high, whole=whole) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (0, "0"),
        (-0.0, "0"),
        (1234567, "1,234,567"),
        (1234.6, "1,235"),
        (0.123456, "0.1235"),
        (-0.5, "−0.5"),
        (-3, "−3"),
        (-0.00001234, "−1.234e−05"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


def test_curve_is_drawn_with_its_ticks_and_escaped_name() -> None:
    chart = line_chart('a "<b>" & c', [[0, 0.0], [50, 0.5], [100, 1.0]])
    assert chart is not None
    drawing = ElementTree.fromstring(chart.svg)
    assert drawing.get("aria-label") == 'a "<b>" & c by optimizer step, from 0 to 1'
    assert drawing.find("polyline").get("points") == chart.line
    assert len(drawing.findall("circle")) == len(drawing.findall("g")) == 3
    assert {text.text for text in drawing.findall("text")} >= {
        label for _, label in (*chart.x_ticks, *chart.y_ticks)
    }


def test_bars_are_as_long_as_their_part_of_the_largest() -> None:
    drawing = ElementTree.fromstring(bar_chart(["a<b", "c"], [("one", [0.75, -2.0]), ("two", [0.25, None])]))
    tag = "{http://www.w3.org/2000/svg}"
    lengths = [float(bar.get("width")) for bar in drawing.findall(f"{tag}rect")[1:]]
    assert lengths == [150, 50, 150, 0]
    words = [text.text for text in drawing.findall(f"{tag}text")]
    assert words == ["a<b", "0.75", "0.25", "c", "−2", "–", "one", "two"]


def test_spikes_are_marked_at_the_edge_and_do_not_flatten_the_curve() -> None:
    noise = [1 + 0.1 * math.sin(7 * i) for i in range(100)]
    spiky = [1e6 if i == 40 else -1e6 if i == 60 else y for i, y in enumerate(noise)]
    assert outliers(noise) == []
    assert outliers(spiky) == [40, 60]
    chart = line_chart("grad_norm", [*enumerate(spiky), (100, math.nan)])
    assert chart is not None
    assert chart.note == "2 beyond the scale, 1 not finite"
    up, down = [mark for mark in chart.marks if mark.outlier]
    assert (up.label, up.y, down.y) == ("step 40: 1,000,000", TOP, HEIGHT - BOTTOM)
    heights = [mark.y for mark in chart.marks if not mark.outlier]
    assert max(heights) - min(heights) > 0.8 * (HEIGHT - BOTTOM - TOP)
    drawing = ElementTree.fromstring(chart.svg)
    assert len(drawing.findall("polygon")) == 2


def test_spikes_survive_thinning() -> None:
    chart = line_chart("long", [(i, 1e9 if i == 1234 else i % 7) for i in range(5000)])
    assert chart is not None
    assert [mark.label for mark in chart.marks if mark.outlier] == ["step 1,234: 1,000,000,000"]


@pytest.mark.parametrize(
    "values",
    [
        [8.0, 4.0, 2.5, 2.0, 1.8, 1.7, 1.65, 1.6, 1.58, 1.57, 1.56, 1.55],  # a loss that falls
        [0.0] * 40 + [0.2, 0.3, 0.25] * 4,  # mostly zero
        [1.0] * 20 + [50.0] * 20,  # a jump that stays
        [3.0, 3.0, 3.0, 9.0],
        [1.0],
    ],
)
def test_other_curves_are_not_clipped(values: list[float]) -> None:
    assert outliers(values) == []
