"""What policies and value models have in common as models that are trained; the interface of value models."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ares.models.inputs import Inputs


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


class ValueModel(Trainable):
    """Predicts the sum of the rewards that follow each state of a response."""

    @abstractmethod
    def values(
        self, inputs: Inputs, responses: Tensor, lengths: Sequence[int], states: Tensor | None = None
    ) -> Tensor:
        """The value of the state before each response token: (B, T) float32, 0 on padding.

        `responses` (B, T) int64 of `lengths` tokens. A model that shares the policy's backbone reads the policy's `states`
        (B, T, D) where they are given.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes a folder that the policy's `load_value` opens."""
