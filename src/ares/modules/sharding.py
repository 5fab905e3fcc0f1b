"""Fully sharded data parallelism (FSDP2): each rank keeps a part of every weight, gradient and moment."""

from typing import Any

import torch
from torch import Tensor, nn


def shard(model: nn.Module, mesh: Any) -> None:
    """Shards a T5 over a device mesh, block by block, in place; its other methods gather weights as `forward` does."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for block in [module for module in model.modules() if type(module).__name__ == "T5Block"]:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name in ("decoder_states", "logits"):
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """The weights of a sharded model, whole, on every rank; every rank must call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))


def whole(x: Tensor) -> Tensor:
    """A tensor that may be sharded, whole."""
    from torch.distributed.tensor import DTensor

    return x.full_tensor() if isinstance(x, DTensor) else x


def is_sharded(strategy: Any) -> bool:
    """Whether a Lightning strategy shards what the module's `configure_model` tells it to."""
    from pytorch_lightning.strategies import ModelParallelStrategy

    return isinstance(strategy, ModelParallelStrategy)


def copy_back(sharded: nn.Module, model: nn.Module) -> None:
    """Gives a whole model the weights of its sharded copy, on whatever device it is."""
    with torch.no_grad():
        model.load_state_dict(whole_weights(sharded))
