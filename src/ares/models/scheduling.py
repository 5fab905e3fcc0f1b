"""Continuous batching: rows that have finished make room for waiting prompts, so that no step computes finished rows.

The rows in progress form a batch of at most `slots`, ordered as the decoder has them. Which rows are computed together
does not influence what is written, apart from rounding: what a row draws depends on its number and age alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ares.models.inputs import Sample
from ares.models.sampling import Choose

CHECK_EVERY = 16  # steps on a GPU between two looks at what has finished, for which it has to finish itself
_NONE = -1  # no token


class Decoder(Protocol):
    """Predicts the next tokens of the rows in progress, k per prompt."""

    def admit(self, prompts: Sequence[int]) -> Tensor:
        """Starts k rows for each of the given prompts, after the rows in progress; the tokens (rows,) they read first."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Logits (R, V) of the token after `tokens` (R,), one of each row in progress."""
        ...

    def keep(self, alive: Sequence[bool]) -> list[int]:
        """Removes rows; the places that the remaining ones had, in the order that they have now."""
        ...


@dataclass
class _Progress:
    """The rows in progress: their numbers, ages, last tokens, and which have finished; (R,) each."""

    rows: Tensor
    ages: Tensor
    tokens: Tensor
    done: Tensor

    @classmethod
    def empty(cls, device: torch.device) -> "_Progress":
        none = torch.empty(0, dtype=torch.long, device=device)
        return cls(none, none, none, none.bool())

    def select(self, order: Sequence[int]) -> "_Progress":
        places = torch.tensor(order, dtype=torch.long, device=self.rows.device)
        return _Progress(self.rows[places], self.ages[places], self.tokens[places], self.done[places])

    def joined(self, rows: Sequence[int], tokens: Tensor) -> "_Progress":
        fresh = torch.tensor(rows, dtype=torch.long, device=tokens.device)
        return _Progress(
            torch.cat([self.rows, fresh]),
            torch.cat([self.ages, torch.zeros_like(fresh)]),
            torch.cat([self.tokens, tokens]),
            torch.cat([self.done, torch.zeros_like(fresh, dtype=torch.bool)]),
        )


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
    every: int = 1,
    finished: Callable[[int], object] = lambda rows: None,
) -> list[Sample]:
    """k responses to each of the prompts of the given lengths: entry i·k + j is response j to prompt i.

    At most `slots` rows are in progress at once. A response ends with `eos` or at its length in `limits`. Prompts of
    similar length are read together, the longest first. Finished rows are removed `every` so many steps. `finished` is
    called with the number of rows that have finished since the last call.
    """
    waiting = sorted(range(len(lengths)), key=lambda prompt: -lengths[prompt])
    written = _Written.empty(len(lengths) * k, max(limits, default=0) + every, device)
    most = torch.tensor(limits, dtype=torch.long, device=device)
    now = _Progress.empty(device)
    while True:
        alive = (~now.done).tolist()
        if not all(alive):
            now = now.select(decoder.keep(alive))
            finished(alive.count(False))
        now, waiting = _refilled(decoder, now, waiting, k, max(slots, k))
        if len(now.rows) == 0:
            return written.samples(exact=not torch.is_autocast_enabled(device.type))
        for _ in range(every):
            tokens, logprobs = choose(decoder.step(now.tokens), now.rows, now.ages)
            written.add(now, tokens, logprobs)
            now.tokens, now.ages = tokens, now.ages + 1
            now.done = now.done | (tokens == eos) | (now.ages >= most[now.rows])


def _refilled(
    decoder: Decoder, now: _Progress, waiting: list[int], k: int, slots: int
) -> tuple[_Progress, list[int]]:
    """Once half of the slots are free, starts rows of the prompts that wait longest.

    Rows that start together are the decoder's cheapest to compute, so that a few at a time would cost more than they fill.
    """
    free = slots - len(now.rows)
    if waiting and free >= max(k, slots / 2):
        prompts, waiting = waiting[: free // k], waiting[free // k :]
        rows = [prompt * k + sample for prompt in prompts for sample in range(k)]
        now = now.joined(rows, decoder.admit(prompts))
    return now, waiting
