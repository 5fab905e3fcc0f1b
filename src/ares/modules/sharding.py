"""Fully sharded data parallelism (FSDP2): each rank keeps a part of every weight, gradient and moment."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import pytorch_lightning as pl
from torch import Tensor, nn

from ares.models.policy import Trainable

M = TypeVar("M", bound=nn.Module)


def shard_models(models: Sequence[Trainable], module: pl.LightningModule) -> None:
    """Shards models in place where the module's strategy leaves that to its `configure_model`, which may be called again."""
    from torch.distributed.fsdp import FSDPModule

    if is_sharded(module.trainer.strategy):
        for model in models:
            if not isinstance(model, FSDPModule):
                mixed = module.trainer.precision == "bf16-mixed"
                _shard(model, module.device_mesh["data_parallel"], mixed=mixed)  # type: ignore[index]


def _shard(model: Trainable, mesh: Any, *, mixed: bool) -> None:
    """Shards block by block, and the rest as one unit; the model's methods gather weights as `forward` would.

    In bf16-mixed, blocks are gathered in bfloat16. Autocast would keep a copy of every gathered weight until the end of
    the backward pass; it still does of the rest.
    """
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if mixed:
        policy = replace(policy, param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh)
    for name in ("states", "logits", "values", "greedy"):
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Keeps all weights of a sharded model on each rank inside the block, where ranks then run on their own.

    For generation: it would gather the weights for every token, as often on each rank, although texts end at different
    lengths. Every rank must enter and leave the block; a model that is not sharded stays as it is.
    """
    from torch.distributed.fsdp import FSDPModule

    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.unshard()
        unit.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(unit is not model, recurse=False)
            unit.reshard()


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
    copies = copy.deepcopy([model.cpu() for model in models])
    yield copies
    for model, trained in zip(models, copies, strict=True):
        # One tensor at a time: no device need hold the full model.
        for target, source in zip(model.state_dict().values(), trained.state_dict().values(), strict=True):
            target.copy_(full(source))
