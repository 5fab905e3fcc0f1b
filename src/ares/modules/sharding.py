"""Fully sharded data parallelism (FSDP2): each rank keeps a part of every weight, gradient and moment."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

from ares.models.policy import Policy, ValueModel

M = TypeVar("M", bound=nn.Module)


def shard_model(model: Policy | ValueModel, mesh: Any) -> None:
    """Shards a model over a device mesh, block by block, in place; its methods gather weights as `forward` would."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name in ("states", "logits", "values"):
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)


def full_weights(model: nn.Module) -> dict[str, Any]:
    """The full weights of a sharded model on every rank; every rank must call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))


def full(x: Tensor) -> Tensor:
    """The full tensor of one that may be sharded."""
    from torch.distributed.tensor import DTensor

    return x.full_tensor() if isinstance(x, DTensor) else x


def is_sharded(strategy: Any) -> bool:
    """Whether a Lightning strategy leaves sharding to the module's `configure_model`."""
    from pytorch_lightning.strategies import ModelParallelStrategy

    return isinstance(strategy, ModelParallelStrategy)


@contextmanager
def gathered_again(models: Sequence[M], trainer: Any) -> Iterator[list[M]]:
    """The models to train: the given ones or, where the strategy shards, copies whose weights they get at the end.

    The given models wait on the CPU meanwhile.
    """
    if not is_sharded(trainer.strategy):
        yield list(models)
        return
    copies = copy.deepcopy([model.cpu() for model in models])
    yield copies
    for model, trained in zip(models, copies, strict=True):
        model.load_state_dict(full_weights(trained))
