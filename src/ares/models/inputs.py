"""What a policy is given and returns: encoded prompts, the filters of sampling, and samples."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch


class Inputs(Protocol):
    """Encoded prompts with their images, opaque outside the policy that made them."""

    @property
    def lengths(self) -> Sequence[int]:
        """The number of tokens of each prompt."""
        ...

    def __len__(self) -> int: ...

    def select(self, rows: Sequence[int]) -> Self:
        """The prompts of the given rows, in their order."""
        ...

    def repeat(self, k: int) -> Self:
        """Each prompt k times in succession."""
        ...

    def distinct(self) -> tuple[Self, list[int]]:
        """The prompts without repetitions, in order, and which of them each row is."""
        ...

    def loaded(self) -> Self:
        """The same prompts with their images in memory, ready for a batch."""
        ...

    def begun(self, beginnings: Sequence[Sequence[int]]) -> Self:
        """The prompts, each with the beginning of its response, which `Policy.write` continues."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """The same prompts on a device."""
        ...


def first_rows(keys: Iterable[Hashable]) -> tuple[list[int], list[int]]:
    """The first row of each distinct key, and for each row the number of its key among them."""
    numbers: dict[Hashable, int] = {}
    which = [numbers.setdefault(key, len(numbers)) for key in keys]
    first = {number: row for row, number in reversed(list(enumerate(which)))}
    return [first[number] for number in range(len(numbers))], which


@dataclass(frozen=True)
class Sampling:
    """Filters of sampling; the defaults sample from the policy itself."""

    top_k: int = 0
    top_p: float = 1.0
    temperature: float = 1.0


@dataclass(frozen=True)
class Sample:
    """A sampled response; `ids` has EOS if it was written, and no padding.

    `logprobs` (nats), one per id, are those of whatever sampled; `exact`: they are the policy's own, up to the rounding
    of float32, and need not be computed again. None where they are not known.
    """

    ids: list[int]
    logprobs: list[float] | None = None
    exact: bool = False
