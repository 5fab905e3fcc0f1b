"""The states of a T5 before each response token: prompts are encoded once for all their responses, and nothing is padded."""

from collections.abc import Sequence
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


def response_states(
    model: Any, inputs: "T5Inputs", responses: Tensor, lengths: Sequence[int] | None = None
) -> Tensor:
    """The decoder's states (B, T, D) from which each token of responses (B, T) int64 is predicted.

    `model` is a policy or a value model. With `lengths`, the tokens of each response, the states of padding are
    not computed, and are 0.
    """
    prompts, groups = inputs.distinct()
    ids, _, images = prompts.tensors
    (rows, width), device = responses.shape, responses.device
    known, longest = lengths or [width] * rows, ids.shape[1]
    shifted = F.pad(responses, (1, 0), value=model.config.decoder_start_token_id)[:, :-1]
    most = max(_PROMPT_ROW, longest)
    read = packing(prompts.lengths, [0] * len(ids), width=longest, longest_row=most, device=device)
    written = packing(known, groups, width=width, longest_row=LONGEST_ROW, device=device)
    pad = model.config.pad_token_id
    embedded = _embedded(model, read.pack(ids, pad), written.pack(shifted, pad))
    encoded = read.unpack(
        model.encoder(inputs_embeds=embedded[0], attention_mask=read.mask(causal=False)).last_hidden_state
    )
    if images is not None:
        encoded = model.encoder.fuse(encoded, images)
    tokens, seen = written.prompts(range(0, longest * len(ids), longest), prompts.lengths)
    states = model.decoder(
        inputs_embeds=embedded[1],
        attention_mask=written.mask(causal=True),
        encoder_hidden_states=encoded.flatten(0, 1)[tokens],
        encoder_attention_mask=seen,
        use_cache=False,
    ).last_hidden_state
    return written.unpack(states)


def _embedded(model: Any, *ids: Tensor) -> list[Tensor]:
    """The embeddings (..., D) of several tensors of ids, in one lookup, whose gradient is as large as the vocabulary."""
    found = model.get_input_embeddings()(torch.cat([each.flatten() for each in ids]))
    parts = found.split([each.numel() for each in ids])
    return [part.view(*each.shape, -1) for part, each in zip(parts, ids, strict=True)]
