"""Sums, means and whitening over the real tokens of right-padded tensors, in one process or over all ranks.

Padding is replaced instead of multiplied by 0, so that a NaN on padding has no effect.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

_EPS = 1e-8


def pad_right(rows: Sequence[Sequence[float]], value: float, *, dtype: torch.dtype | None = None) -> Tensor:
    """`rows` padded on the right with `value`: (B, longest row); int64 where `value` is an int, else float32.

    `dtype` overrides that. No rows, or only empty ones, give a tensor without elements.
    """
    dtype = dtype or (torch.int64 if isinstance(value, int) else torch.float32)
    padded = torch.full((len(rows), max(map(len, rows), default=0)), value, dtype=dtype)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.as_tensor(row, dtype=dtype)
    return padded


def sum_over_ranks(x: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """The element-wise sum of `x` (any shape) over the processes of `group` (None: all of them).

    Returns `x` itself without a process group. Not differentiable.
    """
    return _reduce(x, dist.ReduceOp.SUM, group)


def max_over_ranks(x: Tensor) -> Tensor:
    """The element-wise maximum of `x` (any shape) over all processes, otherwise like `sum_over_ranks`."""
    return _reduce(x, dist.ReduceOp.MAX, None)


def _reduce(x: Tensor, operation: dist.ReduceOp.RedOpType, group: dist.ProcessGroup | None) -> Tensor:
    if not (dist.is_available() and dist.is_initialized()):
        return x
    found = x.detach().clone()
    dist.all_reduce(found, op=operation, group=group)
    return found


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """The sum of `x` (B, T) over positions where `mask` (B, T) is not 0: a scalar of x's dtype."""
    return x.masked_fill(mask == 0, 0).sum()


def masked_mean(x: Tensor, mask: Tensor, *, denominator: float | Tensor | None = None) -> Tensor:
    """The mean of `x` (B, T) over positions where `mask` (B, T) is not 0: a scalar of x's dtype.

    `denominator` replaces the number of such positions (for a micro-batch of a larger batch). Without real tokens
    the mean is 0.
    """
    if denominator is None:
        denominator = (mask != 0).sum().clamp(min=1)
    return masked_sum(x, mask) / denominator


def masked_whiten(
    x: Tensor, mask: Tensor, *, shift_mean: bool = True, group: dist.ProcessGroup | None = None
) -> Tensor:
    """`x` (B, T) float with mean 0 and variance 1 over real tokens of all ranks, 0 on padding.

    `mask` (B, T) is not 0 on real tokens. Population variance plus 1e-8; `shift_mean=False` keeps the mean.
    Sums are taken in float64. In a process group every rank must call this.
    """
    real = mask != 0
    wide = x.detach().double().masked_fill(~real, 0)
    total, count = sum_over_ranks(torch.stack([wide.sum(), real.sum().double()]), group)
    mean = total / count.clamp(min=1)
    squares = (wide - mean).square().masked_fill(~real, 0).sum()
    variance = sum_over_ranks(squares, group) / count.clamp(min=1)
    white = (x - mean) * (variance + _EPS).rsqrt()
    if not shift_mean:
        white = white + mean
    return white.to(x.dtype).masked_fill(~real, 0)
