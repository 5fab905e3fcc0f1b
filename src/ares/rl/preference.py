"""Losses of preference optimization on pairs of responses.

Every loss is a pure function `(chosen, rejected, ref_chosen, ref_rejected, *, beta, ...)` of the responses' summed
log-probabilities (nats, (B,), any floating dtype) under the policy and the reference; row i of each belongs to pair i.
With Δ = log π − log π_ref of a response and h = Δ_chosen − Δ_rejected, each returns a loss per pair, (B,), or, where
responses count one by one, per response: (2B,), the chosen ones first. All are differentiable in `chosen` and
`rejected`. Where lengths or weights of tokens matter, they are in the sums (`response_sums`).
"""

from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

import torch
from torch import Tensor
from torch.nn import functional as F


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """−log σ(βh)·(1 − ε) − log σ(−βh)·ε: (B,); ε = `label_smoothing` is the probability that a pair is the wrong way round.

    Source: Rafailov et al. 2023, "Direct Preference Optimization", equation 7; ε from its conservative variant.
    """
    h = (chosen - ref_chosen) - (rejected - ref_rejected)
    return -F.logsigmoid(beta * h) * (1 - label_smoothing) - F.logsigmoid(-beta * h) * label_smoothing


def hinge_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float
) -> Tensor:
    """max(0, 1 − βh): (B,). Source: Zhao et al. 2023, "SLiC-HF", with the margin relative to the reference."""
    return F.relu(1 - beta * ((chosen - ref_chosen) - (rejected - ref_rejected)))


def ipo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float
) -> Tensor:
    """(h − 1/(2β))²: (B,). Source: Azar et al. 2023, "A General Theoretical Paradigm", equation 17, β there τ.

    The paper's experiments have means per token instead of sums (`response_sums` with `mean`).
    """
    return ((chosen - ref_chosen) - (rejected - ref_rejected) - 1 / (2 * beta)).square()


def kto_pair_loss(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float,
    kl_chosen: Tensor | float | None = None,
    kl_rejected: Tensor | float | None = None,
    detach: bool = True,
) -> Tensor:
    """1 − σ(β(Δ_chosen − KL_rejected)) and 1 − σ(β(KL_chosen − Δ_rejected)): (2B,).

    A KL is max(0, mean Δ) of the batch's responses on one side unless it is given, as for a part of a larger batch.
    Without `detach` gradients flow through it. Source: Ethayarajh et al. 2023, "Human-Centered Loss Functions".
    """
    of_chosen, of_rejected = chosen - ref_chosen, rejected - ref_rejected
    kl_chosen = batch_kl(of_chosen, detach=detach) if kl_chosen is None else kl_chosen
    kl_rejected = batch_kl(of_rejected, detach=detach) if kl_rejected is None else kl_rejected
    return torch.cat(
        [
            1 - torch.sigmoid(beta * (of_chosen - kl_rejected)),
            1 - torch.sigmoid(beta * (kl_chosen - of_rejected)),
        ]
    )


def kto_loss(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float,
    reference_point: Tensor | float = 0.0,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """λ_D·(1 − σ(β(Δ − z₀))) of chosen responses, λ_U·(1 − σ(β(z₀ − Δ))) of rejected ones: (C + R,).

    The sides are not paired: C chosen and R rejected responses. z₀ = `reference_point` is `batch_kl` of mismatched pairs,
    prompts with responses to other prompts. Source: Ethayarajh et al. 2024, "KTO", equation 7.
    """
    desirable = 1 - torch.sigmoid(beta * (chosen - ref_chosen - reference_point))
    undesirable = 1 - torch.sigmoid(beta * (reference_point - (rejected - ref_rejected)))
    return torch.cat([desirable_weight * desirable, undesirable_weight * undesirable])


def apo_zero_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float
) -> Tensor:
    """1 − σ(βΔ_chosen) + σ(βΔ_rejected): (B,). Source: D'Oosterlinck et al. 2024, "Anchored Preference Optimization"."""
    return 1 - torch.sigmoid(beta * (chosen - ref_chosen)) + torch.sigmoid(beta * (rejected - ref_rejected))


def batch_kl(log_ratios: Tensor, *, detach: bool = True) -> Tensor:
    """max(0, mean Δ): an estimate of KL(π || π_ref) from the responses' Δ (B,), a scalar; without gradient if `detach`."""
    estimate = log_ratios.mean().clamp(min=0)
    return estimate.detach() if detach else estimate


def response_sums(logprobs: Tensor, weights: Tensor, *, mean: bool = False) -> Tensor:
    """Σ_t w_t · log π_t of each response, divided by Σ_t w_t with `mean`: (B,) from (B, T) both; w is 0 on padding."""
    total = logprobs.masked_fill(weights == 0, 0).mul(weights).sum(1)
    return total / weights.sum(1).clamp(min=torch.finfo(weights.dtype).tiny) if mean else total


def token_weights(
    chosen_ids: Sequence[int],
    rejected_ids: Sequence[int],
    *,
    gamma: float = 5.0,
    min_match: int = 3,
    normalize: bool = False,
    mask_unchanged: bool = False,
) -> tuple[Tensor, Tensor]:
    """The weights of a pair's tokens in DDPO: (C,) and (R,) float64, `gamma` where the responses differ and 1 elsewhere.

    Tokens are unchanged where they are in a block of at least `min_match` that both responses have, in order; all others
    are changed, insertions included. `normalize` divides by the sum of a response's weights. `mask_unchanged` gives
    changed tokens 1 and others 0, as in VL-RLHF; a response without any is then all 0.
    Source: Yu et al. 2024, "RLHF-V" (dense DPO).
    """
    matcher = SequenceMatcher(None, list(chosen_ids), list(rejected_ids), autojunk=False)
    changed, unchanged = (1.0, 0.0) if mask_unchanged else (gamma, 1.0)
    weights = tuple(
        torch.full((len(ids),), changed, dtype=torch.float64) for ids in (chosen_ids, rejected_ids)
    )
    for block in matcher.get_matching_blocks():
        if block.size >= min_match:
            weights[0][block.a : block.a + block.size] = unchanged
            weights[1][block.b : block.b + block.size] = unchanged
    if normalize:
        weights = tuple(own / own.sum().clamp(min=1) for own in weights)
    return weights[0], weights[1]


# By the name of prefer.loss; DDPO is DPO on weighted sums.
LOSSES: dict[str, Callable[..., Tensor]] = {
    "dpo": dpo_loss,
    "ddpo": dpo_loss,
    "ipo": ipo_loss,
    "hinge": hinge_loss,
    "apo_zero": apo_zero_loss,
    "kto_pair": kto_pair_loss,
    "kto": kto_loss,
}
