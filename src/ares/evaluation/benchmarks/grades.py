"""Grades in the Teacher's replies, and their means."""

import re
from collections.abc import Callable, Mapping, Sequence

from ares.evaluation.benchmarks.base import Item
from ares.teachers.parsing import FeedbackError
from ares.teachers.parsing.reasoning import without_reasoning

_NUMBER = r"-?\d+(?:\.\d+)?"


def number_after(word: str, low: float, high: float) -> Callable[[str], list[float]]:
    """Reads the number after a word ("rating: 4"), or a reply that is nothing but a number.

    The reader raises FeedbackError without such a number, with different ones, and outside [low, high].
    """

    def read(text: str) -> list[float]:
        bare = without_reasoning(text).strip()
        found = re.findall(rf"{word}\W{{1,5}}({_NUMBER})(?![\d.]*\d)", bare, re.IGNORECASE)
        found = found or re.findall(rf"^({_NUMBER})\.?$", bare)
        if len(set(map(float, found))) != 1:
            raise FeedbackError(f"no single {word} in the reply")
        if not low <= float(found[0]) <= high:
            raise FeedbackError(f"the {word} {found[0]} is not between {low:g} and {high:g}")
        return [float(found[0])]

    return read


def usable(
    items: Sequence[Item], grades: Mapping[str, list[float] | None]
) -> tuple[list[tuple[Item, list[float]]], int]:
    """The questions with their grades, and how many are without one because the Teacher's reply could not be used."""
    found = [(item, grade) for item in items if (grade := grades[item.index]) is not None]
    return found, len(items) - len(found)


def mean(values: Sequence[float]) -> float:
    """The mean, 0 of none."""
    return sum(values) / len(values) if values else 0.0
