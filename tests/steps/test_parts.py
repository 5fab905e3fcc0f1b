"""Greedy responses part by part."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from ares.steps.common.contract import StepContext
from ares.steps.common.parts import by_parts
from ares.types import Example, Rationale, Response
from tests.support.composed import composed

EXAMPLES = {f"q{number}": Example(f"prompt {number}", "", f"q{number}") for number in range(70)}


class Killed(Exception):
    """What ends a step in its middle."""


class Writer:
    """Responds to `parts` parts, then dies; `asked` are the labels of the parts."""

    def __init__(self, parts: int) -> None:
        self.parts, self.asked = parts, list[str]()

    def __call__(self, examples: Mapping[str, Example], label: str) -> list[Response]:
        if len(self.asked) == self.parts:
            raise Killed
        self.asked.append(label)
        return [Response(pid, item.prompt.upper(), (7, 1), False) for pid, item in examples.items()]


def written(context: StepContext, parts: int) -> tuple[list[Rationale], list[str]]:
    writer = Writer(parts)
    return by_parts(context, EXAMPLES, writer, split="train", batch_size=2), writer.asked


def test_killed_step_writes_each_part_once_and_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = (
        StepContext(tmp_path / name, "final/generate", tmp_path / name, 0, composed(), "0" * 64)
        for name in ("whole", "killed")
    )
    expected, asked = written(whole, 3)
    assert asked == [f"final/generate train {number}/3" for number in (1, 2, 3)]
    assert [row.pid for row in expected] == list(EXAMPLES)
    assert expected[69] == Rationale("q69", "PROMPT 69", (7, 1), False)
    with pytest.raises(Killed):
        written(killed, 2)
    assert written(killed, 1) == (expected, ["final/generate train 3/3"])
    assert written(killed, 0) == (expected, [])
    names = sorted(path.name for path in whole.checkpoints.iterdir())
    assert names == [f"train-{number}.parquet" for number in range(3)]
    for name in names:
        assert (whole.checkpoints / name).read_bytes() == (killed.checkpoints / name).read_bytes()
