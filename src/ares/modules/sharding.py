"""Fully sharded data parallelism (FSDP2): each rank keeps a part of every weight, gradient and moment."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def whole_again(models: Sequence[nn.Module], trainer: Any) -> Iterator[list[nn.Module]]:
    """What to train: the models or, where the strategy shards, copies whose weights the models get when the block ends.

    The models wait on the CPU meanwhile. Yields policy and, where there is one, value model.
    """
    if not is_sharded(trainer.strategy):
        yield list(models)
        return
    copies = copy.deepcopy([model.cpu() for model in models])
    yield copies
    for model, trained in zip(models, copies, strict=True):
        # A value model that the objective does not use was never sharded, nor changed.
        model.load_state_dict(whole_weights(trained))
