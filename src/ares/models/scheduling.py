"""Continuous batching: rows that have finished make room for waiting prompts, so that no step computes finished rows.

The rows in progress form a batch of at most `slots`, ordered as the decoder has them. Which rows are computed together
does not influence what is written, apart from rounding: what a row draws depends on its number and age alone.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ares.models.inputs import Sample
from ares.models.sampling import Choose
from ares.models.slots import NoRoom, Slots

CHECK_EVERY = 16  # steps on a GPU between two looks at what has finished, for which it has to finish itself
_NONE = -1  # no token

# A step changes tensors only. A capture makes a function of it that does the same, such as a CUDA graph.
Step = Callable[[], None]
Capture = Callable[[Step], Step]


class Decoder(Protocol):
    """Predicts the next tokens of the rows in progress, k per prompt."""

    def admit(self, prompts: Sequence[int], groups: Tensor | None = None) -> Tensor:
        """Starts k rows for each of the given prompts; the tokens (rows,) they read first.

        The rows follow those in progress; where places are fixed, they take those of `groups` (prompts,).
        """
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Logits (R, V) of the token after `tokens` (R,), one of each row in progress."""
        ...

    def keep(self, alive: Sequence[bool]) -> list[int]:
        """Removes rows; the places that the remaining ones had, in the order that they have now."""
        ...

    def fix(self, groups: int) -> Slots:
        """Gives the rows of so many prompts fixed places, before the first are admitted, which raises NoRoom without the memory."""
        ...


@dataclass
class _Progress:
    """The rows in progress: their numbers, ages, last tokens, and which have finished; (R,) each."""

    rows: Tensor
    ages: Tensor
    tokens: Tensor
    done: Tensor

    @classmethod
    def empty(cls, count: int, device: torch.device) -> "_Progress":
        """So many places of rows that have finished."""
        rows, ages, tokens = torch.zeros(3, count, dtype=torch.long, device=device)
        return cls(rows, ages, tokens, torch.ones(count, dtype=torch.bool, device=device))

    def select(self, order: Sequence[int]) -> "_Progress":
        places = torch.tensor(order, dtype=torch.long, device=self.rows.device)
        return _Progress(self.rows[places], self.ages[places], self.tokens[places], self.done[places])

    def joined(self, rows: Tensor, tokens: Tensor) -> "_Progress":
        return _Progress(
            torch.cat([self.rows, rows]),
            torch.cat([self.ages, torch.zeros_like(rows)]),
            torch.cat([self.tokens, tokens]),
            torch.cat([self.done, torch.zeros_like(rows, dtype=torch.bool)]),
        )

    def place(self, places: Tensor, rows: Tensor, tokens: Tensor) -> None:
        self.rows[places], self.tokens[places] = rows, tokens
        self.ages[places], self.done[places] = 0, False


@dataclass
class _Written:
    """The tokens of all rows and their log-probabilities, at their ages; (rows, longest) each."""

    tokens: Tensor
    logprobs: Tensor

    @classmethod
    def empty(cls, rows: int, longest: int, device: torch.device) -> "_Written":
        return cls(
            torch.full((rows, longest), _NONE, device=device), torch.zeros(rows, longest, device=device)
        )

    def add(self, now: _Progress, tokens: Tensor, logprobs: Tensor | None) -> None:
        self.tokens[now.rows, now.ages] = tokens.masked_fill(now.done, _NONE)
        if logprobs is not None:
            self.logprobs[now.rows, now.ages] = logprobs.float()

    def samples(self, *, exact: bool) -> list[Sample]:
        ids = [row[: row.index(_NONE)] for row in self.tokens.tolist()]
        logprobs = self.logprobs.tolist()
        return [Sample(row, found[: len(row)], exact) for row, found in zip(ids, logprobs, strict=True)]


@dataclass
class _Writing:
    """All that a step reads and changes; `limits` (rows,)."""

    decoder: Decoder
    choose: Choose
    written: _Written
    now: _Progress
    limits: Tensor
    eos: int
    k: int

    def step(self) -> None:
        """Writes a token of each row in progress, in place. A row that has finished keeps its age, and writes nothing."""
        now = self.now
        tokens, logprobs = self.choose(self.decoder.step(now.tokens), now.rows, now.ages)
        self.written.add(now, tokens, logprobs)
        now.tokens.copy_(tokens)
        now.ages += ~now.done
        now.done |= (tokens == self.eos) | (now.ages >= self.limits[now.rows])

    def rows_of(self, prompts: Sequence[int]) -> Tensor:
        rows = [prompt * self.k + sample for prompt in prompts for sample in range(self.k)]
        return torch.tensor(rows, device=self.limits.device)


def write(
    decoder: Decoder,
    lengths: Sequence[int],
    choose: Choose,
    limits: Sequence[int],
    *,
    k: int,
    eos: int,
    device: torch.device,
    slots: int = 64,
    every: int | None = None,
    capture: Capture | None = None,
    finished: Callable[[int], object] = lambda rows: None,
) -> list[Sample]:
    """k responses to each of the prompts of the given lengths: entry i·k + j is response j to prompt i.

    At most `slots` rows are in progress at once. A response ends with `eos` or at its length in `limits`. Prompts of
    similar length are read together, the longest first. Finished rows are removed `every` so many steps, by default each
    or, on a GPU, `CHECK_EVERY`. `finished` is called with the number of rows that have finished since the last call. With `capture` rows have fixed places, and a
    prompt takes those of another whose k rows have finished; without it, or without the memory, they are cohorts.
    """
    every = every or (CHECK_EVERY if device.type == "cuda" else 1)
    waiting = sorted(range(len(lengths)), key=lambda prompt: -lengths[prompt])
    writing = _Writing(
        decoder,
        choose,
        _Written.empty(len(lengths) * k, max(limits, default=0) + 1, device),
        _Progress.empty(0, device),
        torch.tensor(limits, dtype=torch.long, device=device),
        eos,
        k,
    )
    if capture is not None and waiting:
        with suppress(NoRoom):
            _write_in_slots(writing, waiting, min(len(waiting), max(slots // k, 1)), every, capture, finished)
            waiting = []
    if waiting:
        _write_in_cohorts(writing, waiting, max(slots, k), every, finished)
    return writing.written.samples(exact=not torch.is_autocast_enabled(device.type))


def _write_in_cohorts(
    writing: _Writing, waiting: list[int], slots: int, every: int, finished: Callable[[int], object]
) -> None:
    writing.now = writing.now.select([])
    while True:
        alive = (~writing.now.done).tolist()
        if not all(alive):
            writing.now = writing.now.select(writing.decoder.keep(alive))
            finished(alive.count(False))
        waiting = _refilled(writing, waiting, slots)
        if len(writing.now.rows) == 0:
            return
        for _ in range(every):
            writing.step()


def _refilled(writing: _Writing, waiting: list[int], slots: int) -> list[int]:
    """Once half of the slots are free, starts rows of the prompts that wait longest; those that still wait.

    Rows that start together are the decoder's cheapest to compute, so that a few at a time would cost more than they fill.
    """
    free = slots - len(writing.now.rows)
    if waiting and free >= max(writing.k, slots / 2):
        prompts, waiting = waiting[: free // writing.k], waiting[free // writing.k :]
        writing.now = writing.now.joined(writing.rows_of(prompts), writing.decoder.admit(prompts))
    return waiting


def _write_in_slots(
    writing: _Writing,
    waiting: list[int],
    groups: int,
    every: int,
    capture: Capture,
    finished: Callable[[int], object],
) -> None:
    """The same with a step that can be captured: once for each width of the attention."""
    places = writing.decoder.fix(groups)
    steps: dict[int, Step] = {}
    now = writing.now = _Progress.empty(groups * writing.k, writing.limits.device)
    idle = len(now.done)
    while True:
        done = now.done.tolist()
        finished(sum(done) - idle)
        free = [group for group in range(groups) if all(done[group * writing.k : (group + 1) * writing.k])]
        admitted: list[int] = []
        # A step costs the same however many rows are done, so that places are filled sooner than a cohort's.
        if len(free) >= groups / 4:
            admitted, waiting = waiting[: len(free)], waiting[len(free) :]
        if admitted:
            taken = torch.tensor(free[: len(admitted)], device=now.done.device)
            first = writing.decoder.admit(admitted, taken)
            now.place(places.rows_of(taken), writing.rows_of(admitted), first)
        idle = sum(done) - len(admitted) * writing.k
        if idle == len(done):
            return
        width = places.fit(now.done, every)
        if width not in steps:
            steps[width] = capture(writing.step)
        for _ in range(every):
            steps[width]()
