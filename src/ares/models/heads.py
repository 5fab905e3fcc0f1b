"""A value head on the policy's own body: no second T5 to hold, and one forward pass for both."""

from typing import Any

import torch
from torch import Tensor, nn

from ares.models.t5 import T5ForMultimodalValue
from ares.models.t5.generation import at_least_float32


class SharedBackboneValue(nn.Module):
    """`v_head` over the decoder states of `policy`, which is no submodule: its weights are the policy's."""

    def __init__(self, policy: Any, v_head: nn.Module) -> None:
        super().__init__()
        self.v_head = v_head
        self._policy = (policy,)

    @property
    def config(self) -> Any:
        """The policy's configuration."""
        return self._policy[0].config

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        image_features: Tensor | None = None,
        *,
        decoder_input_ids: Tensor,
    ) -> Tensor:
        """Values (B, T), as `T5ForMultimodalValue.forward` gives them."""
        states = self._policy[0].decoder_states(input_ids, attention_mask, image_features, decoder_input_ids)
        return self.v_head(states).squeeze(-1)

    def of_states(self, states: Tensor, mask: Tensor) -> Tensor:
        """Values (B, T) from decoder states (B, T, d_model), 0 where `mask` (B, T) is."""
        return at_least_float32(self.v_head(states).squeeze(-1)).masked_fill(~mask.bool(), 0.0)


@torch.no_grad()
def take_trunk(value: T5ForMultimodalValue, policy: nn.Module) -> None:
    """Gives a whole value model the policy's body, so that it can be saved and opened like any other."""
    body = {name: tensor for name, tensor in policy.state_dict().items() if not name.startswith("lm_head")}
    value.load_state_dict({**value.state_dict(), **body})
