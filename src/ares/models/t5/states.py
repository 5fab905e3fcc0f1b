"""The states of a T5 before each response token: prompts are encoded once for all their responses, and nothing is padded."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ares.models.memory import LONGEST_ROW
from ares.models.packing import packing

if TYPE_CHECKING:
    from ares.models.t5.inputs import T5Inputs

# Short prompts share a row of the encoder up to this length, where attention costs little next to the other layers.
_PROMPT_ROW = 256


def response_states(model: Any, inputs: "T5Inputs", responses: Tensor, mask: Tensor | None = None) -> Tensor:
    """The decoder's states (B, T, D) from which each token of responses (B, T) int64 is predicted.

    `model` is a policy or a value model. With `mask` (B, T) the states of padding are not computed, and are 0.
    """
    prompts, groups = inputs.distinct()
    encoded, attended = prompt_states(model, prompts)
    real = torch.ones_like(responses, dtype=torch.bool) if mask is None else mask.bool()
    layout = packing(real, groups, longest_row=LONGEST_ROW)
    shifted = F.pad(responses, (1, 0), value=model.config.decoder_start_token_id)[:, :-1]
    if list(layout.groups) != list(range(len(encoded))):
        rows = torch.tensor(layout.groups, device=encoded.device)
        encoded, attended = encoded.index_select(0, rows), attended.index_select(0, rows)
    states = model.decoder(
        input_ids=layout.pack(shifted, model.config.pad_token_id),
        attention_mask=layout.mask(causal=True),
        encoder_hidden_states=encoded,
        encoder_attention_mask=attended,
        use_cache=False,
    ).last_hidden_state
    return layout.unpack(states)


def prompt_states(model: Any, inputs: "T5Inputs") -> tuple[Tensor, Tensor]:
    """The encoder's states (Q, S, D) of Q prompts, and which of them are no padding: (Q, S) int64."""
    ids, attended, images = inputs.tensors
    layout = packing(attended.bool(), [0] * len(ids), longest_row=max(_PROMPT_ROW, ids.shape[1]))
    packed = model.encoder(
        input_ids=layout.pack(ids, model.config.pad_token_id), attention_mask=layout.mask(causal=False)
    ).last_hidden_state
    states = layout.unpack(packed)
    return (states if images is None else model.encoder.fuse(states, images)), attended
