"""The value model of a vision-language policy: an adapter and a head on the policy's base, or a copy of all weights."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ares.models.adapters import AdapterSet
from ares.models.heads import (
    HEAD_FILE,
    SharedBackboneValue,
    freeze_output,
    load_head,
    save_head,
    value_head,
    values_of_states,
)
from ares.models.inputs import Inputs
from ares.models.policy import ValueModel
from ares.models.vlm.families import blocks_of
from ares.models.vlm.loading import VlmSettings
from ares.types import AresError

if TYPE_CHECKING:
    from ares.models.vlm.policy import VlmPolicy

VALUE = "value"


class VlmValue(ValueModel):
    """A head on the states of `backbone`, a policy's view of its network (adapter `value`) or a copy of it."""

    def __init__(self, backbone: "VlmPolicy", head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self._backbone = (backbone,)  # on the policy's network no submodule: its weights are the policy's
        if backbone.adapter is None:
            self.copy = backbone
            freeze_output(backbone.model)

    @property
    def backbone(self) -> "VlmPolicy":
        """The model whose states are valued."""
        return self._backbone[0]

    @property
    def model(self) -> nn.Module:  # type: ignore[override]
        """The network."""
        return self.backbone.model

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers of a copy; none on the policy's network."""
        return blocks_of(self.model) if self.backbone.adapter is None else []

    def lora_targets(self, targets: str) -> list[str]:
        """As the policy's."""
        return self.backbone.lora_targets(targets)

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The adapter `value` or the copy, and the head."""
        yield from self.backbone.trained()
        yield from ((f"head.{name}", parameter) for name, parameter in self.head.named_parameters())

    def values(
        self, inputs: Inputs, responses: Tensor, lengths: Sequence[int], states: Tensor | None = None
    ) -> Tensor:
        """Values (B, T) from this model's own states."""
        own = self.backbone.states(inputs, responses, lengths)  # type: ignore[arg-type]
        return values_of_states(self.head, own, lengths)

    def save(self, folder: Path) -> None:
        """Writes the policy folder of the backbone and the head."""
        self.backbone.save(folder)
        save_head(self.head, folder)


class VlmSharedValue(SharedBackboneValue):
    """A value head on the states of the policy itself."""

    def save(self, folder: Path) -> None:
        """Writes the policy's folder and the head, as `VlmValue.save` does."""
        self.policy.save(folder)
        save_head(self.head, folder)


def new_value(policy: "VlmPolicy", *, seed: int, shared: bool) -> ValueModel:
    """A value model that predicts 0; its adapter or copy begins as the policy's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = value_head(policy.model.config.get_text_config().hidden_size)
    for parameter in head[-1].parameters():
        nn.init.zeros_(parameter)
    head.to(policy.device, torch.promote_types(policy.model.dtype, torch.float32))
    if shared:
        return VlmSharedValue(policy, head)
    if policy.adapter is None:
        return VlmValue(_copied(policy), head)
    policy.adapters.copy(policy.adapter, VALUE, seed=seed)
    return VlmValue(policy.view(VALUE), head)


def load_value(policy: "VlmPolicy", folder: Path, *, shared: bool) -> ValueModel:
    """The value model in a folder; with `shared` its head on the policy's states. Raises AresError without a head."""
    if not (folder / HEAD_FILE).is_file():
        raise AresError(
            f"{folder} holds no value model (there is no {HEAD_FILE}); give the folder that ppo wrote."
        )
    if policy.adapter and (base := VlmSettings.read(folder).base) != policy.settings.base:
        raise AresError(
            f"The model in {folder} is an adapter of {base}, not of the policy's base {policy.settings.base}; give one that was "
            "trained on the same base."
        )
    head = value_head(policy.model.config.get_text_config().hidden_size)
    load_head(head, folder)
    head.to(policy.device)
    if shared:
        return VlmSharedValue(policy, head)
    if policy.adapter is None:
        checkpointing = policy.model.is_activation_checkpointing
        own = type(policy).load(folder, dropout=0.0, checkpointing=checkpointing)
        return VlmValue(own.to(policy.device), head)
    policy.adapters.load(VALUE, folder)
    return VlmValue(policy.view(VALUE), head)


def _copied(policy: "VlmPolicy") -> "VlmPolicy":
    """A policy of its own network with the same weights, all of them the policy's."""
    adapters = AdapterSet(copy.deepcopy(policy.model))
    return type(policy)(adapters, policy.reader, policy.settings, adapter=None, newline=policy.newline)
