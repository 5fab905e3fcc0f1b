"""How the next token is chosen from logits: the most likely one, or one drawn by inverting the distribution function."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from ares.models.inputs import Sampling
from ares.models.logprobs import at_least_float32

# Tokens (R,) and their log-probabilities (R,), or None, from logits (R, V), the rows' numbers and their ages (R,).
Choose = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]


def most_likely(banned: Sequence[int], device: torch.device) -> Choose:
    """Chooses the most likely token that is not `banned`, from logits on the device."""
    never = torch.tensor(banned, dtype=torch.long, device=device)

    def choose(logits: Tensor, rows: Tensor, ages: Tensor) -> tuple[Tensor, None]:
        return logits.index_fill_(1, never, -torch.inf).argmax(dim=-1), None

    return choose


def drawn(sampling: Sampling, uniforms: Tensor, banned: Sequence[int]) -> Choose:
    """Draws tokens that are not `banned`; a row's token at an age is decided by `uniforms` (rows, longest response).

    The log-probabilities are the policy's own: at temperature 1, without filters, of all tokens. A token of less than
    1e-7 may be drawn more or less often than its probability says, which float32 cannot add to 1.
    """
    never = torch.tensor(banned, dtype=torch.long, device=uniforms.device)
    filters = LogitsProcessorList()
    if sampling.temperature != 1.0:
        filters.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k > 0:
        filters.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        filters.append(TopPLogitsWarper(float(sampling.top_p)))

    def choose(logits: Tensor, rows: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
        scores = at_least_float32(logits)
        of_banned = scores.index_select(1, never).logsumexp(-1)
        scores.index_fill_(1, never, -torch.inf)
        peak = scores.amax(-1, keepdim=True)
        weights = (scores - peak).exp_()
        log_total = torch.logaddexp(weights.sum(-1).log() + peak.squeeze(-1), of_banned)
        if filters:
            # The filters use the logits alone; transformers' signature wants the ids as well.
            weights = filters(None, scores).softmax(-1)  # type: ignore[arg-type]
        tokens = invert(weights, uniforms[rows, ages])
        return tokens, scores.gather(1, tokens[:, None]).squeeze(1) - log_total

    return choose


def invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The column of each row of `weights` (R, V) in which the row's uniform (R,) of its total lies; never one of weight 0.

    Overwrites `weights`. Reading V numbers once costs a tenth of `torch.multinomial`, which draws V of them.
    """
    heights = weights.cumsum_(-1)
    total = heights[:, -1:]
    # A uniform close to 1 must not round up to the total, which no column exceeds.
    height = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(heights, height, right=True).squeeze(1)


def uniforms_of(seed: int, rows: int, length: int) -> Tensor:
    """(rows, length) float32 numbers in [0, 1): row r depends on (`seed`, r) alone, and begins alike for any length."""
    drawn = [np.random.default_rng([seed, row]).random(length, dtype=np.float32) for row in range(rows)]
    return torch.from_numpy(np.stack(drawn) if drawn else np.empty((0, length), np.float32))
