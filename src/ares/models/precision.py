"""The precision of a policy that writes: bfloat16 on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from ares.models.graphs import keeps_its_weights
from ares.models.trainable import Trainable


@contextmanager
def half_on_gpu(model: Trainable) -> Iterator[None]:
    """Products in bfloat16 on a GPU, without gradients; each weight is converted once, not at each token."""
    if model.device.type != "cuda":
        yield  # a fit in bf16-mixed, whose validation writes, keeps the precision that it has set
        return
    once = converted_once(model) if keeps_its_weights(model) else nullcontext()
    with once, torch.autocast("cuda", torch.bfloat16):
        yield


@contextmanager
def converted_once(model: nn.Module) -> Iterator[None]:
    """Lets autocast keep its copies of all float32 weights: it keeps those of weights that require a gradient, and of no others."""
    frozen = [p for p in model.parameters() if p.dtype == torch.float32 and not p.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
