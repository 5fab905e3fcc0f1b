"""Log-probabilities of tokens from the states that predict them, in bounded memory."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ares.models.memory import MOST_LOGITS


def logprobs_of(
    logits: Callable[[Tensor], Tensor],
    states: Tensor,
    responses: Tensor,
    mask: Tensor,
    *,
    vocabulary: int,
    entropy: bool,
) -> tuple[Tensor, Tensor]:
    """`Policy.logprobs` for a policy whose `logits` are (N, V) from (N, D).

    Logits are by far the largest tensor: none are computed for padding, and many tokens are taken in parts, whose logits
    are computed again in the backward pass.
    """
    real = mask.bool()
    known, tokens = states[real], responses[real]
    rows = max(1, MOST_LOGITS // vocabulary)
    if len(tokens) <= rows:
        parts = [_of_tokens(logits, known, tokens, entropy)]
    else:
        parts = [
            checkpoint(_of_tokens, logits, *part, entropy, use_reentrant=False)
            for part in zip(known.split(rows), tokens.split(rows), strict=True)
        ]
    found, spread = (torch.cat(values) for values in zip(*parts, strict=True))
    zeros = torch.zeros(responses.shape, dtype=found.dtype, device=states.device)
    return zeros.masked_scatter(real, found), zeros.masked_scatter(real, spread) if entropy else zeros


def _of_tokens(
    logits: Callable[[Tensor], Tensor], states: Tensor, tokens: Tensor, entropy: bool
) -> tuple[Tensor, Tensor]:
    """Log-probability and, if asked for, entropy of each of N tokens from states (N, D)."""
    scores = at_least_float32(logits(states))
    logprobs = -F.cross_entropy(scores, tokens, reduction="none")
    if not entropy:
        return logprobs, torch.zeros_like(logprobs).detach()
    known = scores.detach()
    return logprobs, known.logsumexp(-1) - (known.softmax(-1) * known).sum(-1)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32 or, where it already is, float64: the least that probabilities and values need."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
