"""Lookups of embeddings whose gradients are as large as the tokens they read, not as the vocabulary."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@contextmanager
def sparse_lookups(embedding: nn.Module) -> Iterator[None]:
    """Adds the gradients of lookups inside the block to the weight's row by row; the weight's own gradient stays dense.

    Otherwise each lookup would fill a tensor as large as the weight with zeros, and add all of it. Modules that are no
    plain embeddings, such as one with an adapter, and frozen weights stay as they are. So do those of a GPU, which fills
    memory in no time, and would wait for the number of different rows.
    """
    if not isinstance(embedding, nn.Embedding) or not (
        embedding.weight.requires_grad and embedding.weight.is_cpu
    ):
        yield
        return
    weight = embedding.weight
    # Where torch.func.functional_call puts other weights, too.
    parameters: dict[str, Any] = embedding._parameters
    parameters["weight"], embedding.sparse = _Rows.apply(weight), True
    try:
        yield
    finally:
        parameters["weight"], embedding.sparse = weight, False


class _Rows(torch.autograd.Function):
    """A weight (V, D) whose sparse gradient stays sparse where it is added to a dense one."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.weight = weight
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        rows = slope.coalesce()
        return rows.to_dense() if ctx.weight.grad is None else rows
