"""Log-probabilities of tokens from the states that predict them, in bounded memory."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ares.models.memory import MOST_LOGITS
from ares.models.transfer import real_places, sent

# Logits at a time: 1 MiB, which stays in the cache of a processor's core, and 64 MiB on a device, which counts launches.
_IN_CACHE, _IN_LAUNCH = 2**18, 2**24


def logprobs_of(
    logits: Callable[[Tensor], Tensor],
    states: Tensor,
    responses: Tensor,
    lengths: Sequence[int],
    *,
    vocabulary: int,
    entropy: bool,
) -> tuple[Tensor, Tensor]:
    """`Policy.logprobs` for a policy whose `logits` are (N, V) from (N, D).

    Logits are by far the largest tensor: none are computed for padding, and many tokens are taken in parts, whose logits
    are computed again in the backward pass.
    """
    places = sent(real_places(lengths, responses.shape[1]), states.device)
    known, tokens = states.flatten(0, 1).index_select(0, places), responses.flatten()[places]
    rows = max(1, MOST_LOGITS // vocabulary)
    if len(tokens) <= rows:
        parts = [_of_tokens(logits, known, tokens, entropy)]
    else:
        parts = [
            checkpoint(_of_tokens, logits, *part, entropy, use_reentrant=False)
            for part in zip(known.split(rows), tokens.split(rows), strict=True)
        ]
    found, spread = (torch.cat(values) for values in zip(*parts, strict=True))
    zeros = found.new_zeros(responses.numel())
    padded = zeros.index_copy(0, places, found).view_as(responses)
    return padded, (zeros.index_copy(0, places, spread) if entropy else zeros).view_as(responses)


def _of_tokens(
    logits: Callable[[Tensor], Tensor], states: Tensor, tokens: Tensor, entropy: bool
) -> tuple[Tensor, Tensor]:
    """Log-probability and, if asked for, entropy of each of N tokens from states (N, D)."""
    return _Chosen.apply(at_least_float32(logits(states)), tokens, entropy)


class _Chosen(torch.autograd.Function):
    """Log-probabilities (N,) of tokens (N,) and entropies (N,) from logits (N, V), which it overwrites.

    The probabilities take the logits' place, and the gradient theirs: cross-entropy and softmax would hold four such
    tensors at a time. That is safe because no last layer of a network needs its output for its own gradient; autograd
    refuses one that does.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, tokens: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        logprobs, spread = scores.new_empty(len(scores)), scores.new_zeros(len(scores))
        block = max(1, (_IN_CACHE if scores.is_cpu else _IN_LAUNCH) // scores.shape[1])
        for start in range(0, len(scores), block):
            part = slice(start, start + block)
            known = scores[part].log_softmax(-1)
            logprobs[part] = known.gather(1, tokens[part, None]).squeeze(1)
            if entropy or ctx.needs_input_grad[0]:
                torch.exp(known, out=scores[part])
            if entropy:
                spread[part] = -torch.linalg.vecdot(known, scores[part])
        ctx.save_for_backward(scores, tokens)
        ctx.mark_non_differentiable(spread)
        return logprobs, spread

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        probabilities, tokens = ctx.saved_tensors
        slopes = probabilities.mul_(-slope[:, None])
        slopes[torch.arange(len(tokens), device=tokens.device), tokens] += slope
        return slopes, None, None


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32 or, where it already is, float64: the least that probabilities and values need."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
