"""Keys and values of rows in fixed places, in memory that keeps its addresses, so that a CUDA graph can replay a step.

G groups of k rows each, R = G·k, one prompt per group. Rows have different ages, which are numbers on the device: no
number that Python knows changes from token to token. H heads of D numbers, S tokens of the longest prompt.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_NARROWEST = 64  # tokens


class NoRoom(Exception):
    """The memory of fixed places is not there."""


class Slots:
    """The interface of `ares.models.cohorts.Cohort`; per layer, keys of prompts (G, H, S, D) and own ones (R, H, longest, D).

    That is as much memory as a cohort of as many rows takes when they reach their longest: `generation_memory` counts it.
    Rows attend to the first `width` places of their own, of which those after the newest token are masked.
    """

    def __init__(self, groups: int, k: int, *, prompt: int, longest: int) -> None:
        self.groups, self.k, self.longest, self.width = groups, k, longest, longest
        self.prompts: list[tuple[Tensor, Tensor]] = []
        self._own: list[tuple[Tensor, Tensor]] = []
        self._prompt = prompt  # S

    def __len__(self) -> int:
        return self.groups * self.k

    def place(
        self, groups: Tensor, prompts: Sequence[tuple[Tensor, Tensor]], mask: Tensor, starts: Tensor
    ) -> None:
        """Starts the rows of `groups` (Q,) anew, with prompts as `Cohort` takes them; all groups at first.

        Raises NoRoom at first.
        """
        if not self.prompts:
            self._allocate(prompts, mask)
        length = mask.shape[1]
        for buffers, given in zip(self.prompts, prompts, strict=True):
            for buffer, tensor in zip(buffers, given, strict=True):
                buffer[:, :, :length].index_copy_(0, groups, tensor.to(buffer.dtype))
        self.mask[groups] = F.pad(mask.bool(), (0, self._prompt - length))
        self._placed = self.rows_of(groups)
        self.ages[self._placed] = 0
        self.starts[self._placed] = starts.repeat_interleave(self.k)

    def _allocate(self, prompts: Sequence[tuple[Tensor, Tensor]], mask: Tensor) -> None:
        # Products would convert keys at each step to what autocast prescribes: so they are kept in that.
        kind = mask.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else prompts[0][0].dtype

        def memory(rows: int, tokens: int) -> list[tuple[Tensor, Tensor]]:
            sizes = [[(rows, x.shape[1], tokens, x.shape[3]) for x in layer] for layer in prompts]
            return [(mask.new_zeros(a, dtype=dtype), mask.new_zeros(b, dtype=dtype)) for a, b in sizes]

        try:
            self._own, self.prompts = memory(len(self), self.longest), memory(self.groups, self._prompt)
        except torch.OutOfMemoryError as error:
            raise NoRoom from error
        self.mask = mask.new_zeros((self.groups, self._prompt), dtype=torch.bool)
        self.ages = torch.zeros(len(self), dtype=torch.long, device=mask.device)  # (R,)
        self.starts = torch.zeros_like(self.ages)  # (R,) positions of the first own tokens

    def rows_of(self, groups: Tensor) -> Tensor:
        """The rows (Q·k,) of groups (Q,)."""
        return (groups[:, None] * self.k + torch.arange(self.k, device=groups.device)).flatten()

    def begin(self, own: Sequence[tuple[Tensor, Tensor]], mask: Tensor) -> None:
        """`Cohort.begin` for the rows that were placed last; they need no padding, because they may differ in age."""
        counts, length = mask.sum(1), mask.shape[1]
        order = torch.arange(length, device=mask.device) + (length - counts)[:, None]
        order = order.clamp(max=length - 1)[:, None, :, None]
        for buffers, given in zip(self._own, own, strict=True):
            for buffer, tensor in zip(buffers, given, strict=True):
                moved = tensor.gather(2, order.expand_as(tensor)).repeat_interleave(self.k, 0)
                buffer[:, :, :length].index_copy_(0, self._placed, moved.to(buffer.dtype))
        self.ages[self._placed] = counts.repeat_interleave(self.k)

    def fit(self, done: Tensor, steps: int) -> int:
        """Sets the width to what rows that are not `done` (R,) need for so many steps: one of a few widths, so that there are few graphs."""
        needed = int(self.ages.masked_fill(done, 0).max()) + steps + 1
        self.width = min(self.longest, max(_NARROWEST, 1 << (needed - 1).bit_length()))
        self.ages.clamp_(max=self.width - 1)
        return self.width

    def advance(self) -> None:
        """After a step: every row has one token more; one that has ended stays where memory ends, and nobody reads it."""
        self.ages.add_(1).clamp_(max=self.width - 1)

    def positions(self) -> Tensor:
        """The positions (R,) of the newest tokens."""
        return self.starts + self.ages

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The rows' own keys and values (R, H, width, D) with those of the newest token (R, H, 1, D)."""
        ages = self.ages[:, None, None, None]
        for buffer, newest in zip(self._own[layer], (keys, values), strict=True):
            buffer.scatter_(2, ages.expand_as(newest), newest.to(buffer.dtype))
        own_keys, own_values = self._own[layer]
        return own_keys[:, :, : self.width], own_values[:, :, : self.width]

    def bias(self, by_distance: Tensor) -> Tensor:
        """See `Cohort.bias`: (R, H, 1, width), -inf after the newest token."""
        distances = self.ages[:, None] - torch.arange(self.width, device=self.ages.device)
        found = by_distance[0, :, 0][:, by_distance.shape[3] - 1 - distances.clamp(min=0)]
        return found.masked_fill(distances < 0, -torch.inf).transpose(0, 1)[:, :, None]

    def seen(self, window: int | None) -> Tensor:
        """Which of its prompt's and its own places each row attends to: (R, S + width); see `Cohort.seen`."""
        own = torch.arange(self.width, device=self.ages.device)
        mask = self.mask.repeat_interleave(self.k, 0)
        seen = torch.cat([mask, own <= self.ages[:, None]], dim=1)
        if window is not None:
            ends = mask.sum(1, keepdim=True)  # of the prompts, after which the own tokens follow
            read = torch.arange(self._prompt, device=self.ages.device).expand_as(mask)
            seen &= torch.cat([read, ends + own], dim=1) >= ends + self.ages[:, None] + 1 - window
        return seen

    def by_prompt(self, queries: Tensor) -> Tensor:
        """Queries (R, H, 1, D) as (G, H, k, D)."""
        return queries.squeeze(2).unflatten(0, (self.groups, self.k)).transpose(1, 2)

    def by_row(self, found: Tensor) -> Tensor:
        """(G, H, k, D) as (R, H · D)."""
        return found.transpose(1, 2).flatten(0, 1).flatten(1)
