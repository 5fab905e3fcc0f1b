"""Forward passes of a vision-language network: states before response tokens, recomputed activations."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ares.models.adapters import AdapterSet
from ares.models.lookups import sparse_lookups
from ares.models.transfer import sent
from ares.models.vlm.families import vision_weights
from ares.models.vlm.reader import VlmInputs
from ares.models.vlm.shared import can_share, shared_states


def response_states(
    network: Any,
    inputs: VlmInputs,
    responses: Tensor,
    lengths: Sequence[int] | None,
    trained: Iterable[tuple[str, nn.Parameter]],
) -> Tensor:
    """The last hidden states (B, T, D) before each token of responses (B, T) int64 that follow B prompts.

    A prompt of several rows is read once where the network can share it. With `lengths`, the tokens of each, states of
    padding have no meaning. Of the `trained` weights those of vision get a gradient in any case, of 0 where no image or no
    layer uses them, so that all ranks have one for the same weights.
    """
    prompts, groups = inputs.distinct()
    if len(prompts) < len(inputs) and can_share(network, max(inputs.lengths) + responses.shape[1]):
        known = lengths or [responses.shape[1]] * len(responses)
        with sparse_lookups(network.get_input_embeddings()):
            states = shared_states(network, prompts, groups, responses, known)
    else:
        states = _separate_states(network, inputs, responses)
    if not torch.is_grad_enabled():
        return states
    return states + sum(0.0 * weight.sum() for weight in vision_weights(trained))


def _separate_states(network: Any, inputs: VlmInputs, responses: Tensor) -> Tensor:
    """Each prompt is read again for each of its responses."""
    hidden = network.model(**inputs.followed_by(responses), use_cache=False).last_hidden_state
    first = sent(torch.tensor(inputs.lengths), hidden.device) - 1
    index = first[:, None] + torch.arange(responses.shape[1], device=hidden.device)
    return hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[-1]))


def checkpoint_activations(network: Any, adapters: AdapterSet) -> None:
    """Recomputes each layer in the backward pass, with the adapter that was in force in the forward pass."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), adapters.using(adapters.active)

    arguments = {"use_reentrant": False, "context_fn": contexts}
    network.activation_checkpointing_enable(activation_checkpointing_kwargs=arguments)
