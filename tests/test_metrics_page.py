"""docs/metrics.md names what is logged, all of it and nothing else."""

import re
from pathlib import Path

import pytest

from ares.steps import ppo, rollout, score
from tests.modules.test_ppo import RL, Watch, make_buffer, tiny_policy, train

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")


def names_in(section: str) -> set[str]:
    """The names of a section's table, first column."""
    body = PAGE.split(f"## {section}", 1)[1].split("\n## ", 1)[0]
    cells = [line.split("|")[1] for line in body.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.fixture(scope="module")
def fit(tmp_path_factory) -> tuple[set[str], set[str]]:
    """The names that a fit logs at its steps, and those of its last figures."""
    policy, watch = tiny_policy(), Watch()
    buffer = make_buffer(policy, questions=8, holdout=0.3)
    figures = train(policy, buffer, tmp_path_factory.mktemp("fit"), RL, callbacks=[watch])
    return {name for step in watch.metrics for name in step}, set(figures)


def test_curves(fit: tuple[set[str], set[str]]) -> None:
    assert fit[0] == names_in("ppo: curves")


def test_figures_of_a_fit(fit: tuple[set[str], set[str]]) -> None:
    once = names_in("ppo: once a fit")
    assert once <= fit[1]
    assert fit[1] - once <= names_in("ppo: curves")


def test_figures_of_the_evaluation() -> None:
    expected = {f"{side}/{name}" for side in ("before", "after") for name in ppo.summary([])}
    assert names_in("ppo: greedy") == expected | set(ppo.buffer_figures([], []))


@pytest.mark.parametrize(
    ("step", "names"),
    [("rollout", set(rollout._figures([]))), ("score", set(score._figures([])))],
)
def test_other_steps(step: str, names: set[str]) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {step} |"))
    assert set(re.findall(r"`([^`]+)`", line.split("|")[2])) == names


def test_every_name_has_a_meaning() -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 35
    assert all(len(row[-2].strip()) > 10 for row in rows)
