"""The clipped surrogate loss of PPO and its value loss.

Source: Schulman et al. 2017, "Proximal Policy Optimization Algorithms", equations 7 and 9 (no entropy bonus).
"""

import torch
from torch import Tensor

from ares.rl.masked import masked_mean, masked_sum

SAMPLER_WEIGHT_CAP = 2.0


def ppo_loss(
    logprobs: Tensor,
    values: Tensor,
    old_logprobs: Tensor,
    old_values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    mask: Tensor,
    *,
    clip_range: float,
    vf_coef: float,
    value_clip_range: float | None = None,
    log_ratio_clamp: float | None = None,
    denominator: float | Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`(loss, metrics)`: loss = policy_loss + vf_coef · value_loss, a differentiable scalar; metrics detached.

    All tensors (B, T), right-padded, `mask` 1 on response tokens; values on padding have no effect.
    With ρ = exp(log π − log π_old), the log clamped to ±`log_ratio_clamp` unless it is None: policy_loss = mean of
    max(−A ρ, −A clip(ρ, 1 ± clip_range)); value_loss = mean of (V − return)², without ½; with `value_clip_range`
    the larger of it and the same for V clipped to the old value ± that range. `denominator` (None: the number of
    real tokens here) divides both sums: pass the tokens of the complete optimizer batch for a micro-batch.
    Metrics: policy_loss, value_loss (as in the loss) and, over the real tokens here, clip_fraction (fraction where
    the clipped term is the larger), approx_kl (mean of ρ − 1 − log ρ), ratio_mean, explained_variance.
    """
    padding = mask == 0
    # Before any arithmetic: 0 · NaN in a backward pass would be NaN.
    advantages, returns = advantages.masked_fill(padding, 0), returns.masked_fill(padding, 0)
    values, old_values = values.masked_fill(padding, 0), old_values.masked_fill(padding, 0)
    log_ratio = (logprobs - old_logprobs).masked_fill(padding, 0)
    if log_ratio_clamp is not None:
        log_ratio = log_ratio.clamp(-log_ratio_clamp, log_ratio_clamp)
    surrogate, is_clipped = clipped_surrogate(log_ratio, advantages, clip_range)
    policy_loss = masked_mean(surrogate, mask, denominator=denominator)
    squares = value_squares(values, old_values, returns, value_clip_range)
    value_loss = masked_mean(squares, mask, denominator=denominator)
    metrics = _metrics(log_ratio, is_clipped, values, returns, mask)
    metrics |= {"policy_loss": policy_loss.detach(), "value_loss": value_loss.detach()}
    return policy_loss + vf_coef * value_loss, metrics


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip_range: float) -> tuple[Tensor, Tensor]:
    """max(−A ρ, −A clip(ρ, 1 ± clip_range)) at each token, and where the clipped term is the larger: both (B, T)."""
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    return torch.maximum(plain, clipped), clipped > plain


@torch.no_grad()
def _metrics(
    log_ratio: Tensor, is_clipped: Tensor, values: Tensor, returns: Tensor, mask: Tensor
) -> dict[str, Tensor]:
    ratio = log_ratio.exp()
    return {
        "clip_fraction": masked_mean(is_clipped.to(ratio.dtype), mask),
        "approx_kl": masked_mean(ratio - 1 - log_ratio, mask),
        "ratio_mean": masked_mean(ratio, mask),
        "explained_variance": explained_variance(values, returns, mask),
    }


def sampler_weights(logprobs: Tensor, sampler_logprobs: Tensor, mask: Tensor) -> Tensor:
    """min(exp(log π_old − log π_sampler), 2) at each token, 1 on padding: (B, T), all arguments (B, T).

    Truncated importance weights of tokens that were sampled with other numerics than the policy's; they multiply the
    advantages. Source: Ionides 2008, "Truncated Importance Sampling".
    """
    difference = (logprobs - sampler_logprobs).masked_fill(mask == 0, 0)
    return difference.exp().clamp(max=SAMPLER_WEIGHT_CAP)


def value_squares(
    values: Tensor, old_values: Tensor, returns: Tensor, value_clip_range: float | None
) -> Tensor:
    """(V − return)² at each token, (B, T); with a clip range the larger of it and that of the clipped V."""
    squares = (values - returns).square()
    if value_clip_range is None:
        return squares
    near = old_values + (values - old_values).clamp(-value_clip_range, value_clip_range)
    return torch.maximum(squares, (near - returns).square())


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 − Var(return − V) / Var(return) over real tokens: 1 is perfect, 0 is no better than a constant. A scalar.

    `values`, `returns`, `mask` (B, T). 0 if the returns do not vary.
    """
    total = _variance(returns, mask)
    residual = _variance(returns - values, mask)
    return torch.where(total > 0, 1 - residual / total.clamp(min=torch.finfo(total.dtype).tiny), 0 * total)


def _variance(x: Tensor, mask: Tensor) -> Tensor:
    return masked_sum((x - masked_mean(x, mask)).square(), mask) / (mask != 0).sum().clamp(min=1)
