"""Refuses weights that are not numbers."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ares.types import AresError


def check_finite(weights: Iterable[tuple[str, Tensor]], what: str) -> None:
    """Raises AresError where a weight of `what` ("The model in runs/a/policy") holds NaN or infinity.

    Each weight is read once, without a copy: one such number makes the sum of its tensor one, too.
    """
    floating = [(name, tensor.detach()) for name, tensor in weights if tensor.is_floating_point()]
    if not floating:
        return
    device = floating[0][1].device
    sums = torch.stack([tensor.sum(dtype=torch.float32).to(device) for _, tensor in floating])
    for (name, tensor), finite in zip(floating, sums.isfinite().tolist(), strict=True):
        if not finite and not tensor.isfinite().all():  # the sum of large numbers may be infinite, too
            raise AresError(
                f"{what} cannot be used: its weight {name} holds NaN or infinity; train it again with a lower learning "
                "rate, or give another one."
            )
