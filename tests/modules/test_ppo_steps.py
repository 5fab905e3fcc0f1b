"""One micro-batch of PPO against the formulas, worked out from the stored numbers."""

import math
from dataclasses import replace

import pytest
import torch

from ares.modules.ppo_module import PPOModule
from tests.support.ppo import NO_WARM_UP, logprobs_of, module_and_batch


def tokens_of(module: PPOModule) -> list[tuple[float, float, float, float]]:
    """(log-probability, the reference's, advantage, return) of every real token."""
    buffer = module.data.buffer
    columns = (buffer.logprobs, buffer.ref_logprobs, module.advantages, module.returns)
    return [
        numbers
        for row in range(len(buffer))
        for numbers in zip(*(column[buffer.tokens(row)].tolist() for column in columns), strict=True)
    ]


def test_first_loss_follows_the_formulas(tiny_policy):
    rl = replace(NO_WARM_UP, kl_coef=0.3, vf_coef=0.7)
    module, batch = module_and_batch(tiny_policy, rl)
    loss = float(module.training_step(batch, 0).detach())
    tokens = tokens_of(module)
    count = len(tokens)
    assert batch["denominator"] == count
    policy_loss = -sum(a for *_, a, _ in tokens) / count
    value_loss = sum((0 - g) ** 2 for *_, g in tokens) / count  # a new value model returns 0
    k1 = sum(p - r for p, r, *_ in tokens) / count
    k3 = sum(math.exp(r - p) - 1 - (r - p) for p, r, *_ in tokens) / count
    assert k3 > 0.005
    assert loss == pytest.approx(policy_loss + 0.7 * value_loss + 0.3 * k3, rel=1e-5)
    sums = {name: float(value) for name, value in module._sums.items()}
    expected = {"policy_loss": policy_loss, "value_loss": value_loss, "kl_k1": k1, "kl_k3": k3}
    assert {name: sums[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert sums["ratio_mean"] == pytest.approx(1, abs=1e-6)
    assert 0 < sums["entropy"] < math.log(len(module.policy.tokenizer))


def test_logged_entropy_is_of_the_full_distribution(tiny_policy):
    module, batch = module_and_batch(tiny_policy)
    module.training_step(batch, 0)
    states = module.policy.states(batch["inputs"], batch["response_ids"])
    distribution = torch.distributions.Categorical(logits=module.policy.logits(states))
    expected = distribution.entropy()[batch["response_mask"].bool()].mean()
    assert float(module._sums["entropy"]) == pytest.approx(float(expected), rel=1e-6)


def test_policy_gradient_is_that_of_the_surrogate(tiny_policy):
    """At the first step, where the ratio is 1: −Σ A ∇log π / N, in float64."""
    module, batch = module_and_batch(tiny_policy, replace(NO_WARM_UP, kl_coef=0.0, vf_coef=0.0))
    module.training_step(batch, 0).backward()
    found = {name: p.grad.clone() for name, p in module.policy.trained() if p.grad is not None}
    module.policy.zero_grad()
    logprobs = logprobs_of(module.policy, batch)
    advantages = module.advantages[batch["places"]]
    (-(advantages * logprobs * batch["response_mask"]).sum() / batch["denominator"]).backward()
    expected = {name: p.grad for name, p in module.policy.trained() if p.grad is not None}
    assert found.keys() == expected.keys()
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    assert scale > 1e-3
    for name in expected:
        # The stored log-probabilities are float32: the ratio is 1 to 1e-6.
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6 * scale, msg=name)


def test_loss_is_scaled_by_accumulation_and_ranks(tiny_policy):
    plain, batch = module_and_batch(tiny_policy)
    expected = float(plain.training_step(batch, 0).detach())
    for accumulate, world in ((3, 1), (1, 4), (3, 4)):
        module, batch = module_and_batch(tiny_policy, accumulate_grad_batches=accumulate, world_size=world)
        loss = float(module.training_step(batch, 0).detach())
        # Lightning divides by the first, DistributedDataParallel by the second.
        assert loss / accumulate / world == pytest.approx(expected, rel=1e-9)
        assert float(module._sums["loss"]) == pytest.approx(expected, rel=1e-9)


def test_stored_tensors_have_no_gradient(tiny_policy):
    module, batch = module_and_batch(tiny_policy)
    assert not any(batch[name].requires_grad for name in ("old_logprobs", "ref_logprobs", "response_mask"))
    assert not module.advantages.requires_grad
    assert not module.returns.requires_grad
