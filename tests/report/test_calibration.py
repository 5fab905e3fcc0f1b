"""The drawing of a reward model's calibration."""

import json
from pathlib import Path
from types import SimpleNamespace

from ares.report.calibration import calibration_chart, calibration_charts


def test_chart_has_the_points_and_the_diagonal() -> None:
    chart = calibration_chart([(0.1, 0.2), (0.9, 0.8)])
    assert chart is not None
    assert [mark.label for mark in chart.marks] == ["predicted 0.1: 0.2", "predicted 0.9: 0.8"]
    [line] = chart.others
    (left, low), (right, high) = (map(float, point.split(",")) for point in line.split())
    assert left < right
    assert low > high  # upwards
    assert calibration_chart([]) is None


def test_steps_with_held_out_scores_are_drawn(tmp_path: Path) -> None:
    rows = [{"scores": [1.0, 0.0], "predicted": [0.85, 0.15]}, {"scores": [], "predicted": []}]
    (tmp_path / "held-out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    step = SimpleNamespace(outputs={"held-out": SimpleNamespace(path="held-out.jsonl")})
    charts = calibration_charts(
        tmp_path, {"round-1/reward": step, "round-1/score": SimpleNamespace(outputs={})}
    )
    assert list(charts) == ["round-1/reward"]
    assert len(charts["round-1/reward"].marks) == 2
