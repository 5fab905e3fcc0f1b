"""Checks before a run that its steps have questions to train on."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ares.config.schema import Config
from ares.steps.prepare import read_problems
from ares.text.prompts import right_answer
from ares.types import AresError, Problem


def check_solutions(config: Config, source: Mapping[str, Path]) -> None:
    """Raises AresError if no train question has a solution to learn from."""
    _check(config, source, "solution", lambda problem: problem.has_solution)


def check_answers(config: Config, source: Mapping[str, Path]) -> None:
    """Raises AresError if no train question has a known answer."""
    _check(config, source, "known answer", lambda problem: right_answer(problem) is not None)


def check_questions(config: Config, source: Mapping[str, Path]) -> None:
    """Raises AresError if there is no train question."""
    _check(config, source, "question", lambda problem: True)


def train_questions(config: Config, source: Mapping[str, Path]) -> list[str]:
    """The pids of the questions that RL samples; none without data."""
    if "data" not in source:
        return []
    return read_problems(config.data, source["data"])[1]["train"][: config.rl.questions]


def _check(
    config: Config, source: Mapping[str, Path], needed: str, usable: Callable[[Problem], bool]
) -> None:
    if "data" not in source:  # reported already
        return
    problems, splits = read_problems(config.data, source["data"])
    if not any(usable(problems[pid]) for pid in splits["train"]):
        empty = "is empty" if not splits["train"] else f"has no question with a {needed}"
        raise AresError(
            f"The train split of data={config.data.name} in {source['data']} {empty}, so there is nothing to train on; set "
            "data.root to data that has some, or correct its splits."
        )
