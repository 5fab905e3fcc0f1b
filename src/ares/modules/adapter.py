"""PPO on low-rank adapters (`rl.lora.r`): few gradients and moments to hold; the adapter is merged afterwards.

With the adapter off a policy is the one that wrote the rollouts: its reference costs no second model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from ares.config.schema import RlLoraConfig
from ares.models.heads import SharedBackboneValue
from ares.modules.lora import target_modules


@contextmanager
def adapted(models: Sequence[nn.Module], settings: RlLoraConfig, *, features: bool) -> Iterator[None]:
    """Models with adapters inside the block, merged when it ends well; with rank 0 the models as they are.

    A value head on another model's body is trained as it is.
    """
    found = []
    for model in models:
        if settings.r and not isinstance(model, SharedBackboneValue):
            trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
            adapter = adapt(
                model, r=settings.r, alpha=settings.alpha, targets=settings.targets, features=features
            )
            found.append((adapter, trainable))
    yield
    for adapter, trainable in found:
        merge(adapter, trainable)


def adapt(model: nn.Module, *, r: int, alpha: int, targets: str, features: bool) -> Any:
    """Puts a fresh adapter without effect into a model, in place; only it and a `v_head` remain trainable.

    Returns the adapter, for `merge`.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    names = target_modules(model, targets, features=features)
    settings = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=0.0, target_modules=names, bias="none")
    adapter = LoraModel(model, settings, "default")
    for name, parameter in model.named_parameters():
        if name.startswith("v_head"):
            parameter.requires_grad_(True)
    return adapter


def merge(adapter: Any, trainable: dict[str, bool]) -> None:
    """Adds the adapter to the weights and takes it out again; `trainable` says what may be trained afterwards."""
    model = adapter.merge_and_unload()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trainable.get(name, True))
