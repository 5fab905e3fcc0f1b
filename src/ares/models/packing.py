"""Several sequences in one row, so that layers compute few states of padding; a mask keeps them apart."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ares.models.transfer import real_places, sent
from ares.rl.masked import pad_right

_WIDTHS = 64  # of rows that are tried
_ATTENTION = 1024  # tokens of a row to which attending costs about as much as all other layers
_PASS = 64  # tokens that cost about as much as one more pass through the network


@dataclass(frozen=True)
class Packing:
    """Where the tokens of N sequences of up to T tokens lie in R rows of W places.

    `tokens` (n,) int64: the index of each token that is no padding among the N · T; `places` (n,) int64: its index among
    the R · W; `owners` and `of_groups` (R, W) int64: the sequence of each place and its group, -1 for none; `groups`:
    the groups of each row.
    """

    shape: tuple[int, int]
    tokens: Tensor
    places: Tensor
    owners: Tensor
    of_groups: Tensor
    groups: Sequence[Sequence[int]]

    def pack(self, ids: Tensor, fill: int) -> Tensor:
        """(R, W) from `ids` (N, T), with `fill` elsewhere."""
        packed = ids.new_full((self.owners.numel(),), fill)
        packed[self.places] = ids.flatten()[self.tokens]
        return packed.view_as(self.owners)

    def unpack(self, states: Tensor) -> Tensor:
        """(N, T, D), 0 for padding, from `states` (R, W, D)."""
        rows, length = self.shape
        found = states.new_zeros((rows * length, states.shape[-1]))
        known = states.flatten(0, 1).index_select(0, self.places)
        return found.index_copy(0, self.tokens, known).view(rows, length, -1)

    def mask(self, *, causal: bool) -> Tensor:
        """Which places (R, 1, W, W) a place attends to: those of its own sequence, no later ones if `causal`."""
        same = self.owners[:, None, :, None] == self.owners[:, None, None, :]
        return same.tril() if causal else same

    def positions(self) -> Tensor:
        """The position (R, W) int64 of each place in its sequence."""
        within = torch.arange(self.shape[1], device=self.owners.device)
        return self.pack(within.repeat(self.shape[0], 1), 0)

    def prompts(self, starts: Sequence[int], lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Where the S tokens of each row's prompts lie, (R, S) int64, and which of them a place attends to, (R, 1, W, S).

        Prompt p, which the sequences of group p follow, has `lengths[p]` tokens from `starts[p]` on.
        """
        device = self.owners.device
        tokens = [[starts[p] + t for p in row for t in range(lengths[p])] for row in self.groups]
        owners = pad_right([[p for p in row for _ in range(lengths[p])] for row in self.groups], -2)
        seen = self.of_groups[:, None, :, None] == sent(owners, device)[:, None, None, :]
        return sent(pad_right(tokens, 0), device), seen


def packing(
    lengths: Sequence[int],
    groups: Sequence[int],
    *,
    width: int,
    longest_row: int,
    device: torch.device | str = "cpu",
) -> Packing:
    """Packs sequences of `lengths` tokens, padded to `width`, into rows as wide as costs least, those of a group together.

    A row has at most `longest_row` places or those of its one sequence. A sequence without any token counts as its first.
    All is computed on the host, and then sent to `device`.
    """
    lengths = [max(1, length) for length in lengths]
    longest, most = max(lengths), min(longest_row, sum(lengths))
    widest = max(longest, most)
    widths = [*range(longest, widest, max(1, (widest - longest) // _WIDTHS)), widest]
    tried = [_filled(lengths, groups, width) for width in widths]
    rows = min(tried, key=lambda rows: _cost(rows, lengths))
    owners = np.full((len(rows), max(sum(lengths[sequence] for sequence in row) for row in rows)), -1)
    for own, sequences in zip(owners, rows, strict=True):
        held = np.repeat(sequences, [lengths[sequence] for sequence in sequences])
        own[: len(held)] = held
    # By sequence, and in their order within each.
    places = np.argsort(owners, axis=None, kind="stable")[np.count_nonzero(owners < 0) :]
    return Packing(
        (len(lengths), width),
        sent(real_places(lengths, width), device),
        sent(places, device),
        sent(owners, device),
        sent(np.asarray([*groups, -1])[owners], device),
        [list(dict.fromkeys(groups[sequence] for sequence in row)) for row in rows],
    )


def of_similar_length(lengths: Sequence[int]) -> list[list[int]]:
    """The sequences in batches, each padded to its longest, that together with a pass for each batch cost least."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    # The cost and the batches of the first n sequences in this order, by n.
    best: list[tuple[int, list[list[int]]]] = [(0, [])]
    for end in range(1, len(order) + 1):
        costs = [best[n][0] + _PASS + (end - n) * lengths[order[end - 1]] for n in range(end)]
        start = min(range(end), key=costs.__getitem__)
        best.append((costs[start], [*best[start][1], order[start:end]]))
    return best[-1][1]


def _filled(lengths: Sequence[int], groups: Sequence[int], width: int) -> list[list[int]]:
    """Sequences in rows of at most `width`, those of a group together where they fit, the longest groups first."""
    rows: list[list[int]] = []
    used: list[int] = []
    held: list[set[int]] = []
    total: Counter[int] = Counter()
    for group, length in zip(groups, lengths, strict=True):
        total[group] += length
    for sequence in sorted(range(len(lengths)), key=lambda i: (-total[groups[i]], groups[i], -lengths[i], i)):
        group, length = groups[sequence], lengths[sequence]
        fitting = [row for row in range(len(rows)) if used[row] + length <= width]
        row = min(fitting, key=lambda row: (group not in held[row], row), default=len(rows))
        if row == len(rows):
            rows.append([])
            used.append(0)
            held.append(set())
        rows[row].append(sequence)
        used[row] += length
        held[row].add(group)
    return rows


def _cost(rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> int:
    width = max(sum(lengths[sequence] for sequence in row) for row in rows)
    return len(rows) * width * (_ATTENTION + width)
