"""The value model of a T5: a T5 of its own with a value head, or a head on the policy's body."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5Block

from ares.models.finite import check_finite
from ares.models.heads import SharedBackboneValue, values_of_states
from ares.models.inputs import Inputs
from ares.models.policy import ValueModel
from ares.models.t5.attention import lean
from ares.models.t5.loading import value_from_model
from ares.models.t5.lora import lora_targets
from ares.models.t5.model import T5ForMultimodalValue
from ares.models.t5.states import response_states


class T5Value(ValueModel):
    """A T5 of its own with a value head; `features` says whether it sees images."""

    def __init__(self, model: T5ForMultimodalValue, features: bool) -> None:
        super().__init__()
        self.model, self.features = model, features
        lean(model)

    @property
    def head(self) -> nn.Module:
        """The layers after the body."""
        return self.model.v_head

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks of encoder and decoder."""
        return [module for module in self.model.modules() if isinstance(module, T5Block)]

    def lora_targets(self, targets: str) -> list[str]:
        """As the policy's."""
        return lora_targets(self.model, targets, features=self.features)

    def values(
        self, inputs: Inputs, responses: Tensor, lengths: Sequence[int], states: Tensor | None = None
    ) -> Tensor:
        """Values (B, T) from this model's own states."""
        own = response_states(self.model, inputs, responses, lengths)  # type: ignore[arg-type]
        return values_of_states(self.head, own, lengths)

    def save(self, folder: Path) -> None:
        """Writes an ordinary transformers folder."""
        check_finite(self.model.named_parameters(), "The value model")
        self.model.save_pretrained(folder)


class T5SharedValue(SharedBackboneValue):
    """A value head on the body of a `T5Policy`."""

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """Writes a complete value model with a copy of the policy's body, as `T5Value.save` does."""
        value = value_from_model(self.policy.model, seed=0)
        value.v_head.load_state_dict(self.head.state_dict())
        check_finite(value.named_parameters(), "The value model")
        value.save_pretrained(folder)
