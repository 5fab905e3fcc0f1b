"""Heads on the states of a language model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ares.models.finite import check_finite
from ares.models.inputs import Inputs
from ares.models.logprobs import at_least_float32
from ares.models.policy import Policy, ValueModel
from ares.models.transfer import real_places, sent
from ares.models.weights import opening, read_weights

HEAD_FILE = "value_head.safetensors"


def value_head(width: int) -> nn.Sequential:
    """The layers from a state (..., width) to its value (..., 1)."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 1))


def values_at(head: nn.Module, states: Tensor) -> Tensor:
    """Values (N,), at least float32, of states (N, D)."""
    return at_least_float32(head(states.to(next(head.parameters()).dtype)).squeeze(-1))


def values_of_states(head: nn.Module, states: Tensor, lengths: Sequence[int]) -> Tensor:
    """Values (B, T), at least float32 and 0 on padding, from states (B, T, D) of rows with `lengths` tokens."""
    rows, width, _ = states.shape
    places = sent(real_places(lengths, width), states.device)
    values = values_at(head, states.flatten(0, 1).index_select(0, places))
    return values.new_zeros(rows * width).index_copy(0, places, values).view(rows, width)


def save_head(head: nn.Module, folder: Path) -> None:
    """Writes a head's weights next to a policy. Raises AresError for weights that are not finite."""
    from safetensors.torch import save_file

    check_finite(head.named_parameters(), "The value head")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    save_file(tensors, folder / HEAD_FILE)


def load_head(head: nn.Module, folder: Path) -> None:
    """Reads a head's weights, in place. Raises AresError where they are missing, torn or of another width."""
    remedy = "give the one trained with this base"
    with opening(f"The value head in {folder} does not fit the policy", remedy):
        head.load_state_dict(read_weights(folder / HEAD_FILE))
    check_finite(head.named_parameters(), f"The value head in {folder}")


def freeze_output(network: Any) -> None:
    """Freezes the output layer, which no head depends on, unless it is the input embedding, too."""
    layer = network.get_output_embeddings()
    if layer.weight is not network.get_input_embeddings().weight:
        layer.requires_grad_(False)


class SharedBackboneValue(ValueModel):
    """A value head on the policy's own backbone: no second model to hold, and one forward pass for both."""

    def __init__(self, policy: Policy, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self._policy = (policy,)  # not a submodule: its weights are the policy's

    @property
    def policy(self) -> Policy:
        """The policy whose states are valued."""
        return self._policy[0]

    @property
    def blocks(self) -> list[nn.Module]:
        """None of its own."""
        return []

    def lora_targets(self, targets: str) -> list[str]:
        """None of its own."""
        return []

    def values(
        self, inputs: Inputs, responses: Tensor, lengths: Sequence[int], states: Tensor | None = None
    ) -> Tensor:
        """Values (B, T) from the policy's `states`, which are computed where they are not given."""
        known = self.policy.states(inputs, responses, lengths) if states is None else states
        return values_of_states(self.head, known, lengths)
