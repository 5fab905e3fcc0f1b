"""Fully sharded data parallelism (FSDP2): each rank keeps a part of every weight, gradient and moment."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

from ares.models.policy import Trainable

M = TypeVar("M", bound=nn.Module)


def shard_model(model: Trainable, mesh: Any) -> None:
    """Shards a model over a device mesh, block by block, in place; its methods gather weights as `forward` would."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name in ("states", "logits", "values"):
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)


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
    """The models to train: the given ones or, where the strategy shards, copies whose weights they take at the end.

    In the meantime the given models are on the CPU. Every rank must call it.
    """
    if not is_sharded(trainer.strategy):
        yield list(models)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    copies = copy.deepcopy([model.cpu() for model in models])
    yield copies
    for model, trained in zip(models, copies, strict=True):
        full_state = get_model_state_dict(trained, options=StateDictOptions(full_state_dict=True))
        model.load_state_dict(full_state)
