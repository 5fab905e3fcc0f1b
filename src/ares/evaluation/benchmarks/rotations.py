"""Questions with their options rotated, for MMBench's circular evaluation."""

from collections.abc import Sequence
from dataclasses import replace

from ares.evaluation.benchmarks.base import Item
from ares.text.prompts import LETTERS
from ares.types import AresError

ROTATION = 1_000_000  # a question's index plus this per rotation


def rotated(items: Sequence[Item]) -> list[Item]:
    """The questions, each followed by its rotations, in which every option moves up by one letter.

    As they are if the file has rotations.
    """
    if any(number_of(item) >= ROTATION for item in items):
        return list(items)
    return [_rotation(item, turn) for item in items for turn in range(max(1, len(item.choices)))]


def number_of(item: Item) -> int:
    """The index of a question of MMBench. Raises AresError for one that is no number."""
    if not item.index.isdecimal():
        raise AresError(
            f"MMBench's question {item.index} has no number as its index; give the file as it is published."
        )
    return int(item.index)


def _rotation(item: Item, turn: int) -> Item:
    count = len(item.choices)
    if not turn:
        return item
    choices = tuple(item.choices[(place - turn) % count] for place in range(count))
    answer = LETTERS[(LETTERS.index(item.answer) + turn) % count] if item.answer else ""
    fields = {**item.fields, **dict(zip(LETTERS, choices, strict=False))}
    index = str(number_of(item) + turn * ROTATION)
    return replace(item, index=index, choices=choices, answer=answer, fields=fields)
