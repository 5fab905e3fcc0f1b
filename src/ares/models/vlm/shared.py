"""The states of responses of which several answer one prompt, which is read once.

The prompts are read into a key-value cache, through which gradients flow, as generation reads them: so no family needs
code of its own. The responses of a prompt then follow in one row, each of which sees the prompt and itself.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ares.models.memory import LONGEST_ROW
from ares.models.packing import packing
from ares.models.vlm.families import blocks_of


def can_share(network: Any, longest: int) -> bool:
    """Whether a network can read responses after a cache, in rows of `longest` tokens.

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


def shared_states(
    network: Any, prompts: dict[str, Tensor], groups: Sequence[int], responses: Tensor, real: Tensor
) -> Tensor:
    """The last hidden states (B, T, D) before each response token.

    `prompts`: a batch that is padded on the right; `groups`: the prompt of each of `responses` (B, T) int64; `real`
    (B, T) bool marks the tokens that are no padding.
    """
    body, lengths = network.model, prompts["attention_mask"].sum(1)
    cache, positions = DynamicCache(), {}
    if hasattr(body, "rope_deltas"):
        body.rope_deltas = None  # set where images take fewer positions than tokens
    else:  # counted from 0 in every family
        positions["position_ids"] = torch.arange(prompts["input_ids"].shape[1], device=responses.device)[None]
    known = body(**prompts, **positions, past_key_values=cache, use_cache=True).last_hidden_state
    deltas = getattr(body, "rope_deltas", None)
    following = lengths if deltas is None else lengths + deltas.squeeze(1).to(lengths)
    layout = packing(real, groups, longest_row=LONGEST_ROW)
    rows = torch.tensor([group for [group] in layout.groups], device=responses.device)
    if rows.tolist() != list(range(len(lengths))):
        cache.batch_select_indices(rows)
    seen = prompts["attention_mask"].bool()[rows, None, None, :].expand(-1, -1, layout.owners.shape[1], -1)
    mask = torch.cat([seen, layout.mask(causal=True)], dim=-1)
    after = body(
        input_ids=layout.pack(responses, 0),
        attention_mask=_attention_mask(network, mask),
        position_ids=layout.positions() + following[rows, None],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    question = torch.tensor(groups, device=responses.device)
    first = known[question, lengths[question] - 1]
    return torch.cat([first[:, None], layout.unpack(after)[:, :-1]], dim=1)


def _attention_mask(network: Any, mask: Tensor) -> Tensor:
    if network.config.get_text_config()._attn_implementation == "sdpa":
        return mask
    zeros = torch.zeros(mask.shape, dtype=network.dtype, device=mask.device)
    return zeros.masked_fill(~mask, torch.finfo(network.dtype).min)
