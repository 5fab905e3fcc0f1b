"""Per-token estimates of the KL divergence from a reference policy.

Source: J. Schulman, "Approximating KL Divergence" (2020), http://joschu.net/blog/kl-approx.html.
"""

import torch
from torch import Tensor


def kl_penalty(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, *, estimator: str = "k1") -> Tensor:
    """An estimate of KL(policy || reference) at each token (nats): (B, T) in the inputs' dtype, 0 on padding.

    `logprobs`, `ref_logprobs`, `mask` (B, T), log-probabilities of tokens that the policy sampled. With
    r = ref − log p: `k1` = −r (unbiased, may be negative), `k2` = r²/2, `k3` = exp(r) − 1 − r (unbiased, never
    negative). Differentiable. Raises ValueError for another estimator.
    """
    ratio = (ref_logprobs - logprobs).masked_fill(mask == 0, 0)
    if estimator == "k1":
        return -ratio
    if estimator == "k2":
        return ratio.square() / 2
    if estimator == "k3":
        return torch.expm1(ratio) - ratio
    raise ValueError(f"There is no KL estimator {estimator!r}; choose k1, k2 or k3.")
