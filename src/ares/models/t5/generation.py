"""Writing with a policy, and what policy and value model say of a response that is already written.

Tensors are right-padded: B batch, S prompt tokens, T response tokens, P patches of D numbers. A response holds
its EOS if one was written, never the decoder's start token or padding; one without EOS was truncated.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

# Finished rows are computed on in vain until a batch has this share of them; then they leave it.
_COMPACT_AT = 0.25


def generate_greedy(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_features: Tensor | None,
    *,
    max_new_tokens: int,
) -> list[list[int]]:
    """The likeliest next token again and again: B responses as token ids.

    `input_ids`, `attention_mask` (B, S) int64; `image_features` (B, P, D) float or None. The model may be in
    any mode: it writes without dropout and is left as it was.
    """
    with _frozen(model):
        states = _encode(model, input_ids, attention_mask, image_features)
        return _decode(model, states, attention_mask, lambda logits: logits.argmax(dim=-1), max_new_tokens)


def sample(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_features: Tensor | None,
    *,
    k: int,
    max_new_tokens: int,
    generator: torch.Generator,
    top_k: int = 0,
    top_p: float = 1.0,
    temperature: float = 1.0,
) -> list[list[int]]:
    """k sampled responses to each prompt, B·k in all: entry i·k + j is sample j of prompt i.

    `input_ids`, `attention_mask` (B, S) int64; `image_features` (B, P, D) float or None. Each prompt is encoded
    once. With `top_k` 0, `top_p` 1 and `temperature` 1 tokens come from the policy itself, save that padding is
    never written. `generator` lives on the model's device and moves on, so the next call draws afresh. The model
    may be in any mode: it writes without dropout and is left as it was.
    """
    filters = LogitsProcessorList()
    if temperature != 1.0:
        filters.append(TemperatureLogitsWarper(float(temperature)))
    if top_k > 0:
        filters.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        filters.append(TopPLogitsWarper(float(top_p)))

    def draw(logits: Tensor) -> Tensor:
        # The filters look at the logits alone; transformers' signature wants the ids, too.
        probabilities = filters(None, logits.float()).softmax(dim=-1)  # type: ignore[arg-type]
        return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)

    with _frozen(model):
        states = _encode(model, input_ids, attention_mask, image_features).repeat_interleave(k, dim=0)
        return _decode(model, states, attention_mask.repeat_interleave(k, dim=0), draw, max_new_tokens)


def token_logprobs(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_features: Tensor | None,
    response_ids: Tensor,
    response_mask: Tensor,
) -> Tensor:
    """log π(token t | prompt, image, tokens before t) at temperature 1, nats: (B, T) float32, 0 on padding.

    `input_ids`, `attention_mask` (B, S) int64; `image_features` (B, P, D) float or None; `response_ids` (B, T)
    int64; `response_mask` (B, T), 1 on response tokens. Differentiable; dropout is the model's business.
    """
    states = response_states(model, input_ids, attention_mask, image_features, response_ids)
    return states_logprobs(model, states, response_ids, response_mask)[0]


def response_states(
    model: Any, input_ids: Tensor, attention_mask: Tensor, image_features: Tensor | None, response_ids: Tensor
) -> Tensor:
    """The decoder's states (B, T, d_model) from which each response token is written; arguments as above."""
    start = model.config.decoder_start_token_id
    return model.decoder_states(
        input_ids, attention_mask, image_features, decoder_inputs(response_ids, start)
    )


def states_logprobs(
    model: Any, states: Tensor, response_ids: Tensor, response_mask: Tensor, *, entropy: bool = False
) -> tuple[Tensor, Tensor]:
    """What `token_logprobs` returns, from states, and, if asked for, the entropy of each token's distribution.

    Both (B, T), nats, 0 on padding; the entropy has no gradient.
    """
    real = response_mask.bool()
    # The (tokens, V) logits are by far the largest tensor here: none are made for padding.
    logits = at_least_float32(model.logits(states[real]))
    zeros = torch.zeros(response_ids.shape, dtype=logits.dtype, device=states.device)
    logprobs = zeros.masked_scatter(real, -F.cross_entropy(logits, response_ids[real], reduction="none"))
    if not entropy:
        return logprobs, zeros
    known = logits.detach()
    spread = known.logsumexp(-1) - (known.softmax(-1) * known).sum(-1)
    return logprobs, zeros.masked_scatter(real, spread)


def values(
    value_model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_features: Tensor | None,
    response_ids: Tensor,
    response_mask: Tensor,
) -> Tensor:
    """The value of the state before each response token: (B, T) float32, 0 on padding.

    Arguments as for `token_logprobs`; entry t belongs to response token t in both.
    """
    start = value_model.config.decoder_start_token_id
    found = value_model(
        input_ids, attention_mask, image_features, decoder_input_ids=decoder_inputs(response_ids, start)
    )
    return at_least_float32(found).masked_fill(~response_mask.bool(), 0.0)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 where it is that already: probabilities and values want no less."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def decoder_inputs(response_ids: Tensor, start_id: int = 0) -> Tensor:
    """Responses (B, T) int64 shifted right by the decoder's start token: what the decoder reads, (B, T)."""
    return F.pad(response_ids, (1, 0), value=start_id)[:, :-1]


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Without gradients and dropout; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _encode(model: Any, input_ids: Tensor, attention_mask: Tensor, image_features: Tensor | None) -> Tensor:
    return model.encoder(
        input_ids=input_ids, attention_mask=attention_mask, image_features=image_features
    ).last_hidden_state


def _decode(
    model: Any, states: Tensor, mask: Tensor, choose: Callable[[Tensor], Tensor], max_new_tokens: int
) -> list[list[int]]:
    """Token by token with a key-value cache; `choose` maps logits (rows, V) to tokens (rows,)."""
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
        # A padding token inside a response could not be told from padding behind it.
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
