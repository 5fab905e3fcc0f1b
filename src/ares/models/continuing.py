"""Responses that continue given beginnings, each of which is read once for all responses that share it."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ares.models.inputs import Inputs
from ares.models.sampling import Choose

if TYPE_CHECKING:
    from ares.models.policy import Policy


def continued(
    policy: "Policy",
    inputs: Inputs,
    beginnings: Sequence[Sequence[int]],
    choose: Choose,
    *,
    longest: int,
    **how: Any,
) -> list[list[int]]:
    """A response per prompt that starts with its beginning, of at most `longest` tokens in all.

    `choose` gets the numbers of the prompts and the tokens' places in the complete responses; `how` as in `Policy.write`.
    """
    if not beginnings:
        return []
    groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for row, (prompt, ids) in enumerate(zip(inputs.distinct()[1], beginnings, strict=True)):
        groups.setdefault((prompt, tuple(ids)), []).append(row)
    k = math.gcd(*map(len, groups.values()))  # rows of a group that `write` lets share one reading
    order = [row for rows in groups.values() for row in rows]
    numbers = torch.tensor(order, device=policy.device)
    starts = torch.tensor([min(len(ids), longest) for ids in beginnings], device=policy.device)

    def chosen(logits: Tensor, rows: Tensor, ages: Tensor) -> tuple[Tensor, Tensor | None]:
        own = numbers[rows]
        return choose(logits, own, ages + starts[own])

    begun = inputs.select(order[::k]).begun([beginnings[row] for row in order[::k]])
    limits = [max(1, longest - len(beginnings[row])) for row in order]
    written = dict(zip(order, policy.write(begun, chosen, limits, k=k, **how), strict=True))
    return [[*ids, *written[row].ids][:longest] for row, ids in enumerate(beginnings)]
