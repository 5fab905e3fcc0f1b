"""Forward passes of a vision-language network: states before response tokens, recomputed activations."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ares.models.adapters import AdapterSet
from ares.models.vlm.families import vision_weights


def response_states(
    network: Any,
    batch: dict[str, Tensor],
    prompts: Sequence[int],
    length: int,
    trained: Iterable[tuple[str, nn.Parameter]],
) -> Tensor:
    """The last hidden states (B, T, D) before each of `length` response tokens, which follow `prompts` tokens each.

    `batch` is padded on the right. Of the `trained` weights those of vision get a gradient in any case, of 0 where no
    image or no layer uses them, so that all ranks have one for the same weights.
    """
    hidden = network.model(**batch, use_cache=False).last_hidden_state
    first = torch.tensor(prompts, device=hidden.device) - 1
    index = first[:, None] + torch.arange(length, device=hidden.device)
    states = hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[-1]))
    if not torch.is_grad_enabled():
        return states
    return states + sum(0.0 * weight.sum() for weight in vision_weights(trained))


def checkpoint_activations(network: Any, adapters: AdapterSet) -> None:
    """Recomputes each layer in the backward pass, with the adapter that was in force in the forward pass."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), adapters.using(adapters.active)

    arguments = {"use_reentrant": False, "context_fn": contexts}
    network.activation_checkpointing_enable(activation_checkpointing_kwargs=arguments)
