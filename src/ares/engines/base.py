"""The interface of an engine, which writes the text of a step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ares.models.inputs import Sample, Sampling
from ares.types import Example, Response


@dataclass(frozen=True)
class EngineJob:
    """The step that an engine works for: its key, and the folder of its policy.

    `batch_size`: prompts that fit on the device at once; `log`: the file for the output of a process that it starts.
    """

    step: str
    policy: Path
    batch_size: int
    log: Path


class Engine(ABC):
    """Writes text with the policy of a step; what it starts on entering its `with` block ends with the block."""

    @abstractmethod
    def sample(
        self, examples: Sequence[Example], *, k: int, seed: int, sampling: Sampling, max_new_tokens: int
    ) -> list[Sample]:
        """k samples per example, drawn from `seed`: entry i·k + j is sample j of example i."""

    @abstractmethod
    def greedy(self, examples: Mapping[str, Example], *, max_new_tokens: int, label: str) -> list[Response]:
        """A greedy response to each example, in their order; ranks share the work, and each returns all responses."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        return
