"""Keys and values of the rows in progress, in cohorts of rows that started together.

Rows of a cohort have the same age, so that their own keys need neither padding nor a mask, and the k rows of a prompt
share the prompt's keys. R rows of Q prompts, H heads of D numbers, S tokens of the longest prompt.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ares.models.inputs import Inputs
from ares.models.slots import Slots

_ROOM = 64  # tokens


class Cohort:
    """Per layer, keys and values of prompts, (Q, H, S, D) each, and those of the rows' own tokens, (R, H, age, D).

    `mask` (Q, S): which of a prompt's tokens there are; `starts` (Q,): the positions of the first own tokens;
    `longest`: the most tokens that a row reads.
    """

    def __init__(
        self, prompts: Sequence[tuple[Tensor, Tensor]], mask: Tensor, starts: Tensor, *, k: int, longest: int
    ) -> None:
        self.prompts, self.mask, self.k = list(prompts), mask.bool(), k
        self.starts = starts.repeat_interleave(k)
        # The place of each row among the k rows of every prompt.
        self.places = list(range(len(mask) * k))
        self.age, self.longest = 0, longest
        self._index: Tensor | None = None
        self._own: list[tuple[Tensor, Tensor]] = []
        self.gaps: Tensor | None = None  # (R, S) bool: first places that `begin` filled with padding

    def __len__(self) -> int:
        return len(self.places)

    def begin(self, own: Sequence[tuple[Tensor, Tensor]], mask: Tensor) -> None:
        """Gives the k rows of each prompt its first own keys and values, (Q, H, S, D) per layer, where `mask` (Q, S) is True.

        Padding is on the left, so that all rows have the same age afterwards.
        """
        self._own = [
            (keys.repeat_interleave(self.k, 0), values.repeat_interleave(self.k, 0)) for keys, values in own
        ]
        self.age, self.gaps = mask.shape[1], ~mask.repeat_interleave(self.k, 0)

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The rows' own keys and values (R, H, age + 1, D) with those of the newest token (R, H, 1, D)."""
        if layer == len(self._own):
            size = (len(self), keys.shape[1], min(_ROOM, self.longest), keys.shape[3])
            self._own.append((keys.new_empty(size), values.new_empty(size)))
        elif self.age == self._own[layer][0].shape[2]:
            self._own[layer] = tuple(self._enlarged(tensor) for tensor in self._own[layer])  # type: ignore[assignment]
        found = []
        for buffer, newest in zip(self._own[layer], (keys, values), strict=True):
            buffer[: len(self), :, self.age] = newest[:, :, 0]
            found.append(buffer[: len(self), :, : self.age + 1])
        return found[0], found[1]

    def advance(self) -> None:
        """After a step: every row has one token more."""
        self.age += 1

    def positions(self) -> Tensor:
        """The positions (R,) of the newest tokens."""
        return self.starts + self.age

    def bias(self, by_distance: Tensor) -> Tensor:
        """Of the newest token to the rows' own tokens: (R or 1, H, 1, age + 1), -inf for padding.

        `by_distance` (1, H, 1, longest): the newest token's to all before it, the newest last.
        """
        bias = by_distance[..., -self.age - 1 :]
        if self.gaps is None:
            return bias
        gaps = F.pad(self.gaps, (0, self.age + 1 - self.gaps.shape[1]))
        return bias.masked_fill(gaps[:, None, None], -torch.inf)

    def _enlarged(self, buffer: Tensor) -> Tensor:
        rows, heads, room, width = len(self), *buffer.shape[1:]
        larger = buffer.new_empty((rows, heads, min(2 * room, self.longest), width))
        larger[:, :, :room] = buffer[:rows]
        return larger

    def seen(self, window: int | None) -> Tensor:
        """Which of its prompt's and its own tokens, the newest among them, each row attends to: (R, S + age + 1).

        With a `window`, only the last tokens.
        """
        prompts = torch.tensor([place // self.k for place in self.places], device=self.mask.device)
        seen = F.pad(self.mask[prompts], (0, self.age + 1), value=True)
        if window is not None:
            ends = self.mask.sum(1)[prompts, None]  # of the prompts, after which the own tokens follow
            places = torch.arange(seen.shape[1], device=self.mask.device)
            padding = (places >= self.mask.shape[1]) * (self.mask.shape[1] - ends)
            seen &= places - padding >= ends + self.age + 1 - window
        return seen

    def by_prompt(self, queries: Tensor) -> Tensor:
        """Queries (R, H, 1, D) as (Q, H, k, D), with zeros for rows that have finished."""
        heads, width = queries.shape[1], queries.shape[3]
        if (index := self._places(queries.device)) is not None:
            every = queries.new_zeros((len(self.mask) * self.k, heads, width))
            queries = every.index_copy_(0, index, queries.squeeze(2))
        return queries.view(len(self.mask), self.k, heads, width).transpose(1, 2)

    def by_row(self, found: Tensor) -> Tensor:
        """(Q, H, k, D) as (R, H · D)."""
        rows = found.transpose(1, 2).flatten(0, 1).flatten(1)
        return rows if (index := self._places(found.device)) is None else rows[index]

    def _places(self, device: torch.device) -> Tensor | None:
        """`places` as a tensor, None while all rows are in progress in their first order."""
        if self._index is None and self.places != list(range(len(self.mask) * self.k)):
            self._index = torch.tensor(self.places, device=device)
        return self._index

    def keep(self, alive: Sequence[bool]) -> list[int]:
        """Removes rows, the last ones taking their places; the places that the remaining ones had, in their new order."""
        count = sum(alive)
        order = list(range(count))
        holes = [row for row in order if not alive[row]]
        moved = [row for row in range(count, len(alive)) if alive[row]]
        for hole, row in zip(holes, moved, strict=True):
            order[hole] = row
        if holes:
            for buffer in (tensor for layer in self._own for tensor in layer):
                buffer[holes, :, : self.age] = buffer[moved, :, : self.age]
        self.places, self._index = [self.places[row] for row in order], None
        self.gaps = None if self.gaps is None else self.gaps[order]
        self.starts = self.starts[order]
        self._forget_prompts()
        return order

    def _forget_prompts(self) -> None:
        """Removes prompts without rows in progress once they are half of all."""
        needed = sorted({place // self.k for place in self.places})
        if not needed or 2 * len(needed) > len(self.mask):
            return
        number = {prompt: place for place, prompt in enumerate(needed)}
        self.places = [number[place // self.k] * self.k + place % self.k for place in self.places]
        self.mask = self.mask[needed]
        longest = max(1, int(self.mask.sum(1).max()))
        self.mask = self.mask[:, :longest]
        self.prompts = [
            (keys[needed, :, :longest], values[needed, :, :longest]) for keys, values in self.prompts
        ]


class CohortDecoder:
    """What decoders have in common: the rows in progress, k per prompt, in cohorts or in fixed places."""

    def __init__(self, inputs: Inputs, *, k: int, longest: int) -> None:
        self.k, self.longest, self._longest_prompt = k, longest, max(inputs.lengths, default=0)
        self.cohorts: list[Cohort] = []
        self.slots: Slots | None = None

    @property
    def rows(self) -> Sequence[Cohort | Slots]:
        """The rows in progress, in the order of their tokens."""
        return self.cohorts if self.slots is None else [self.slots]

    def fix(self, groups: int) -> Slots:
        """Gives the rows of so many prompts fixed places, before the first are admitted."""
        # Attention on a GPU pads a mask of another width than a multiple of 8 in every layer.
        prompt = -(-self._longest_prompt // 8) * 8
        self.slots = Slots(groups, self.k, prompt=prompt, longest=self.longest)
        return self.slots

    def keep(self, alive: Sequence[bool]) -> list[int]:
        """Removes rows in cohorts."""
        self.cohorts, order = keep_rows(self.cohorts, alive)
        return order

    def _start(
        self, prompts: Sequence[tuple[Tensor, Tensor]], mask: Tensor, starts: Tensor, groups: Tensor | None
    ) -> Cohort | Slots:
        """Starts rows as `Cohort` takes them: in fixed `groups` (Q,), or as a cohort."""
        # If the memory is not there, rows are cohorts from now on.
        slots, self.slots = self.slots, None
        if slots is not None and groups is not None:
            slots.place(groups, prompts, mask, starts)
            self.slots = slots
            return slots
        self.cohorts.append(Cohort(prompts, mask, starts, k=self.k, longest=self.longest))
        return self.cohorts[-1]


def keep_rows(cohorts: list[Cohort], alive: Sequence[bool]) -> tuple[list[Cohort], list[int]]:
    """`Decoder.keep` for rows in cohorts: those that still have rows, and the rows' former places."""
    order: list[int] = []
    start, left = 0, []
    for cohort in cohorts:
        end = start + len(cohort)
        if not all(alive[start:end]):
            order += [start + place for place in cohort.keep(alive[start:end])]
        else:
            order += range(start, end)
        if len(cohort):
            left.append(cohort)
        start = end
    return left, order
