"""The base of models that are trained, adapted and sharded."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


class Trainable(nn.Module, ABC):
    """A policy or a value model, as adapters and sharding see it."""

    model: Any  # the network, of any class; with an adapter, PEFT's wrapper of it

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The layers that are sharded one by one; none on another model's backbone."""

    @abstractmethod
    def lora_targets(self, targets: str) -> list[str]:
        """The names, within `model`, of the linear layers that an adapter of RL trains: `all`, or the `paper`'s list.

        None on another model's backbone, and in a policy that is an adapter itself.
        """

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights that training changes, by name; several models on one network train different ones."""
        return ((name, weight) for name, weight in self.named_parameters() if weight.requires_grad)
