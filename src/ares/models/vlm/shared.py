"""The states of responses of which several answer one prompt, which is read once.

The prompts are read into a key-value cache, through which gradients flow, as generation reads them: so no family needs
code of its own. The responses then follow in rows of several, each of which sees its prompt and itself.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ares.models.memory import LONGEST_ROW
from ares.models.packing import of_similar_length, packing
from ares.models.transfer import sent
from ares.models.vlm.families import blocks_of
from ares.models.vlm.reader import VlmInputs


def can_share(network: Any, longest: int) -> bool:
    """Whether a network can read responses after a cache, if a prompt and its response have up to `longest` tokens.

    Not while activations are recomputed, when transformers keeps no cache, nor beyond the window of layers that attend
    to a window only, nor for a sharded network, whose weights are gathered for each pass: ranks must have equally many.
    """
    from torch.distributed.fsdp import FSDPModule

    text = network.config.get_text_config()
    recomputes = network.training and network.is_activation_checkpointing
    window = getattr(text, "sliding_window", None)
    known = text._attn_implementation in ("sdpa", "eager")
    sharded = isinstance(blocks_of(network)[0], FSDPModule)
    return known and not recomputes and not sharded and (window is None or longest <= window)


def read_prompts(body: Any, inputs: VlmInputs) -> tuple[Tensor, DynamicCache, Tensor]:
    """The states (Q, S, D) of prompts, padded on the right, their keys, and the position (Q,) that follows each."""
    batch = inputs.followed_by(torch.empty((len(inputs), 0), dtype=torch.long))
    cache, positions = DynamicCache(), {}
    if hasattr(body, "rope_deltas"):
        body.rope_deltas = None  # set where images take fewer positions than tokens
    else:  # counted from 0 in every family
        positions["position_ids"] = torch.arange(batch["input_ids"].shape[1], device=inputs.device)[None]
    states = body(**batch, **positions, past_key_values=cache, use_cache=True).last_hidden_state
    following = batch["attention_mask"].sum(1)
    deltas = getattr(body, "rope_deltas", None)
    return states, cache, following if deltas is None else following + deltas.squeeze(1).to(following)


def shared_states(
    network: Any, prompts: VlmInputs, groups: Sequence[int], responses: Tensor, lengths: Sequence[int]
) -> Tensor:
    """The last hidden states (B, T, D) before each response token.

    `groups`: the prompt of each of `responses` (B, T) int64; `lengths`: the tokens of each.
    """
    parts = of_similar_length(prompts.lengths)
    number = {prompt: place for place, prompt in enumerate(prompt for part in parts for prompt in part)}
    groups, ordered = [number[group] for group in groups], prompts.select(list(number))
    read = [read_prompts(network.model, prompts.select(part)) for part in parts]
    starts = [0]
    for states, *_ in read:
        starts += [starts[-1] + states.shape[1] * n for n in range(1, len(states) + 1)]
    width, device = responses.shape[1], responses.device
    layout = packing(lengths, groups, width=width, longest_row=LONGEST_ROW, device=device)
    # Each response reads its prompt's last token again: of the prompts, nothing but keys and values is used.
    tokens, seen = layout.prompts(starts, [length - 1 for length in ordered.lengths])
    mask = torch.cat([seen, layout.mask(causal=True)], dim=-1)
    last = sent(torch.tensor([[ordered.ids[group][-1]] for group in groups]), device)
    following = torch.cat([positions for *_, positions in read])[sent(torch.tensor(groups), device)]
    positions = torch.arange(width, device=device) + following[:, None] - 1
    states = network.model(
        input_ids=layout.pack(torch.cat([last, responses[:, :-1]], dim=1), 0),
        attention_mask=_attention_mask(network, mask),
        position_ids=layout.pack(positions, 0),
        past_key_values=_cache([cache for _, cache, _ in read], tokens),
        use_cache=True,
    ).last_hidden_state
    return layout.unpack(states)


def _cache(parts: Sequence[DynamicCache], tokens: Tensor) -> DynamicCache:
    """The keys and values of the `tokens` (R, S) among those of all parts, one after another; empties the parts."""
    found = DynamicCache()
    for number in range(len(parts[0].layers)):
        layers: list[Any] = [part.layers.pop(0) for part in parts]
        found.update(
            _chosen([layer.keys for layer in layers], tokens),
            _chosen([layer.values for layer in layers], tokens),
            number,
        )
    return found


def _chosen(parts: Sequence[Tensor], tokens: Tensor) -> Tensor:
    """(R, H, S, D): the `tokens` (R, S) of parts (Q, H, S, D), whose tokens are numbered one after another."""
    flat = torch.cat([prompt for part in parts for prompt in part], dim=1)
    return flat.index_select(1, tokens.flatten()).unflatten(1, tokens.shape).transpose(0, 1)


def _attention_mask(network: Any, mask: Tensor) -> Tensor:
    if network.config.get_text_config()._attn_implementation == "sdpa":
        return mask
    zeros = torch.zeros(mask.shape, dtype=network.dtype, device=mask.device)
    return zeros.masked_fill(~mask, torch.finfo(network.dtype).min)
