"""Greedy decoding and sampling with a T5, token by token with a key-value cache.

Tensors are right-padded: B prompts, S prompt tokens, P patches of D numbers. A response holds its EOS if one was
written, never the decoder's start token or padding; one without EOS was truncated. Models are in eval mode.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from ares.models.inputs import Sampling

# Finished rows are removed from a batch once they are this share of it.
_COMPACT_AT = 0.25


def generate(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_features: Tensor | None,
    choose: Callable[[Tensor], Tensor],
    *,
    k: int = 1,
    max_new_tokens: int,
) -> list[list[int]]:
    """k responses per prompt as token ids, B·k in all: entry i·k + j is response j of prompt i.

    `input_ids`, `attention_mask` (B, S) int64; `image_features` (B, P, D) float or None. `choose` maps logits
    (rows, V) to tokens (rows,). Each prompt is encoded once.
    """
    states = model.encoder(
        input_ids=input_ids, attention_mask=attention_mask, image_features=image_features
    ).last_hidden_state.repeat_interleave(k, dim=0)
    return _decode(model, states, attention_mask.repeat_interleave(k, dim=0), choose, max_new_tokens)


def most_likely(logits: Tensor) -> Tensor:
    """The most likely tokens (rows,) from logits (rows, V)."""
    return logits.argmax(dim=-1)


def sampler(sampling: Sampling, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """A function that draws tokens (rows,) from logits (rows, V).

    Without filters tokens come from the policy itself, except that padding is never written. `generator` lives on the
    model's device and advances, so that the next call draws afresh.
    """
    filters = LogitsProcessorList()
    if sampling.temperature != 1.0:
        filters.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k > 0:
        filters.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        filters.append(TopPLogitsWarper(float(sampling.top_p)))

    def draw(logits: Tensor) -> Tensor:
        # The filters use the logits alone; transformers' signature wants the ids as well.
        probabilities = filters(None, logits.float()).softmax(dim=-1)  # type: ignore[arg-type]
        return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)

    return draw


def _decode(
    model: Any, states: Tensor, mask: Tensor, choose: Callable[[Tensor], Tensor], max_new_tokens: int
) -> list[list[int]]:
    """Responses from the encoder's states (rows, S, d_model) and their mask (rows, S)."""
    config, count = model.config, len(states)
    written = torch.full((count, max_new_tokens), config.pad_token_id, device=states.device)
    rows = torch.arange(count, device=states.device)  # the rows still in the batch
    done = torch.zeros(count, dtype=torch.bool, device=states.device)
    token = torch.full((count,), config.decoder_start_token_id, device=states.device)
    cache = None
    for step in range(max_new_tokens):
        output = model.decoder(
            input_ids=token[:, None],
            past_key_values=cache,
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            use_cache=True,
        )
        cache = output.past_key_values
        logits = model.logits(output.last_hidden_state[:, -1])
        # A padding token inside a response could not be distinguished from padding after it.
        logits[:, config.pad_token_id] = -torch.inf
        token = choose(logits).masked_fill(done, config.pad_token_id)
        written[rows, step] = token
        done = done | (token == config.eos_token_id)
        finished = int(done.sum())
        if finished == len(rows):
            break
        if finished >= _COMPACT_AT * len(rows):
            keep = (~done).nonzero().squeeze(-1)
            cache.batch_select_indices(keep)
            states, mask, token, rows, done = states[keep], mask[keep], token[keep], rows[keep], done[keep]
    return [[token for token in row if token != config.pad_token_id] for row in written.tolist()]
