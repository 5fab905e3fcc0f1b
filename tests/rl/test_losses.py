import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.rl.losses import explained_variance, ppo_loss, sampler_weights

NAMES = ("logprobs", "values", "old_logprobs", "old_values", "advantages", "returns")


def case(seed: int = 0, rows: int = 3, longest: int = 6, spread: float = 0.3):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (rows, 1), generator=generator)
    mask = (torch.arange(longest) < lengths).double()
    x = torch.randn(6, rows, longest, generator=generator, dtype=torch.float64).unbind()
    tensors = dict(zip(NAMES, x, strict=True))
    tensors["old_logprobs"] = tensors["logprobs"] + spread * tensors["old_logprobs"]
    return tensors, mask


def loss_of(tensors, mask, **settings):
    settings = {"clip_range": 0.2, "vf_coef": 0.7, **settings}
    return ppo_loss(**tensors, mask=mask, **settings)


def gradients(tensors, mask, **settings):
    leaves = {n: x.clone().requires_grad_(n in ("logprobs", "values")) for n, x in tensors.items()}
    loss, _ = loss_of(leaves, mask, **settings)
    loss.backward()
    return loss.detach(), leaves["logprobs"].grad, leaves["values"].grad


def test_losses_gradients_and_metrics_equal_the_recording(shared):
    meta = json.loads((shared / "golden/ppo_meta.json").read_text())
    with np.load(shared / "golden/ppo.npz") as golden:
        for entry in meta["loss"]:
            arrays = {
                n: torch.from_numpy(golden[f"loss/{entry['i']}/{n}"]) for n in NAMES if n != "old_values"
            }
            arrays["old_values"] = torch.zeros_like(arrays["values"])
            mask = torch.from_numpy(golden[f"loss/{entry['i']}/mask"])
            arrays["logprobs"].requires_grad_()
            arrays["values"].requires_grad_()
            loss, metrics = ppo_loss(
                **arrays, mask=mask, clip_range=entry["clip_range"], vf_coef=entry["vf_coef"]
            )
            loss.backward()
            stats = entry["stats"]
            assert loss.item() == pytest.approx(stats["total_loss"], rel=1e-5)
            for name, recorded in (("policy_loss", "policy_loss"), ("value_loss", "value_loss")):
                assert metrics[name].item() == pytest.approx(stats[recorded], rel=1e-5, abs=1e-6)
            # The original logged the value loss under this name (its loss function did compute the share).
            assert metrics["clip_fraction"].item() == pytest.approx(stats["clipfrac"], abs=1e-6)
            for name in ("logprobs", "values"):
                recorded = torch.from_numpy(golden[f"loss/{entry['i']}/grad_{name}"])
                torch.testing.assert_close(arrays[name].grad, recorded, rtol=1e-4, atol=1e-6)


def test_clamp_bounds_an_extreme_ratio(shared):
    meta = json.loads((shared / "golden/ppo_meta.json").read_text())
    entry = max(meta["loss"], key=lambda e: e["stats"]["total_loss"])
    assert entry["stats"]["total_loss"] > 1e20
    with np.load(shared / "golden/ppo.npz") as golden:
        arrays = {n: torch.from_numpy(golden[f"loss/{entry['i']}/{n}"]) for n in NAMES if n != "old_values"}
        mask = torch.from_numpy(golden[f"loss/{entry['i']}/mask"])
    loss, _ = ppo_loss(
        **arrays,
        old_values=torch.zeros_like(arrays["values"]),
        mask=mask,
        clip_range=0.2,
        vf_coef=1.0,
        log_ratio_clamp=2.0,
    )
    assert abs(loss.item()) < 1e3


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_gradients_agree_with_finite_differences(seed):
    tensors, mask = case(seed)
    names = ("logprobs", "values")

    def loss(*found):
        changed = {**tensors, **dict(zip(names, found, strict=True))}
        return loss_of(changed, mask, value_clip_range=0.3, log_ratio_clamp=5.0)[0]

    leaves = tuple(tensors[name].clone().requires_grad_() for name in names)
    assert torch.autograd.gradcheck(loss, leaves, eps=1e-7, atol=1e-5)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_padding_changes_neither_loss_nor_gradient(seed):
    tensors, mask = case(seed)
    loss, *grads = gradients(tensors, mask)
    spoilt = {n: x.masked_fill(mask == 0, float("nan")) for n, x in tensors.items()}
    wide = {n: torch.nn.functional.pad(x, (0, 3), value=float("inf")) for n, x in spoilt.items()}
    wide_loss, *wide_grads = gradients(wide, torch.nn.functional.pad(mask, (0, 3)))
    torch.testing.assert_close(wide_loss, loss)
    for grad, wide_grad in zip(grads, wide_grads, strict=True):
        torch.testing.assert_close(wide_grad[:, :-3], grad)
        assert not wide_grad[:, -3:].any()


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_micro_batches_add_up_to_the_full_batch(seed):
    tensors, mask = case(seed, rows=6)
    tokens = mask.sum()
    loss, *grads = gradients(tensors, mask)
    for size in (1, 2, 4):
        parts = []
        for start in range(0, 6, size):
            rows = slice(start, start + size)
            part = {n: x[rows] for n, x in tensors.items()}
            parts.append(gradients(part, mask[rows], denominator=tokens))
        torch.testing.assert_close(sum(part[0] for part in parts), loss)
        for i, grad in enumerate(grads):
            torch.testing.assert_close(torch.cat([part[i + 1] for part in parts]), grad)


def one(log_ratio: float, advantage: float, **settings):
    zero = torch.zeros(1, 1, dtype=torch.float64)
    tensors = dict.fromkeys(NAMES, zero)
    tensors |= {"logprobs": zero + log_ratio, "advantages": zero + advantage}
    return gradients(tensors, torch.ones(1, 1), **settings)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        (1.3, 1.0, False),  # good and already likelier than 1 + ε
        (0.7, -1.0, False),  # bad and already less likely than 1 - ε
        (0.7, 1.0, True),
        (1.3, -1.0, True),
        (1.1, 1.0, True),
        (0.9, -1.0, True),
    ],
)
def test_clipped_region_has_zero_gradient(ratio, advantage, moves):
    loss, grad, _ = one(math.log(ratio), advantage)
    if moves:
        assert loss.item() == pytest.approx(-advantage * ratio)
        assert grad.item() == pytest.approx(-advantage * ratio)
    else:
        assert grad.item() == 0
        assert loss.item() == pytest.approx(-advantage * (1.2 if ratio > 1 else 0.8))


def test_ratio_is_constant_beyond_the_clamp():
    loss, grad, _ = one(30.0, -1.0, log_ratio_clamp=20.0)
    assert loss.item() == pytest.approx(math.exp(20.0))
    assert grad.item() == 0


def test_loss_of_unchanged_policy_is_negative_mean_advantage():
    tensors, mask = case(4)
    tensors["old_logprobs"] = tensors["logprobs"]
    _, metrics = loss_of(tensors, mask)
    mean = tensors["advantages"][mask.bool()].mean()
    assert metrics["policy_loss"].item() == pytest.approx(-mean.item())
    assert metrics["ratio_mean"].item() == 1
    assert metrics["approx_kl"].item() == metrics["clip_fraction"].item() == 0


def test_loss_is_policy_loss_plus_weighted_value_loss():
    tensors, mask = case(5)
    loss, metrics = loss_of(tensors, mask)
    square = (tensors["values"] - tensors["returns"])[mask.bool()].square().mean()
    assert metrics["value_loss"].item() == pytest.approx(square.item())
    assert loss.item() == pytest.approx((metrics["policy_loss"] + 0.7 * metrics["value_loss"]).item())
    assert not any(value.requires_grad for value in metrics.values())


def test_value_clipping_takes_the_larger_error():
    zero = torch.zeros(1, 2, dtype=torch.float64)
    tensors = dict.fromkeys(NAMES, zero)
    # The first value has come near its return from afar, the second has moved away from it.
    tensors |= {
        "values": torch.tensor([[1.0, -1.0]]).double(),
        "returns": torch.tensor([[1.0, 1.0]]).double(),
    }
    _, metrics = loss_of(tensors, torch.ones(1, 2), value_clip_range=0.2)
    assert metrics["value_loss"].item() == pytest.approx((0.8**2 + 2.0**2) / 2)


def test_only_padding_gives_zero_loss_and_gradient():
    tensors, mask = case(6)
    loss, *grads = gradients(tensors, torch.zeros_like(mask), denominator=17)
    assert loss == 0
    assert not any(grad.any() for grad in grads)


def test_explained_variance():
    returns = torch.tensor([[1.0, 2.0, 3.0, 99.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    assert explained_variance(returns, returns, mask) == 1
    assert explained_variance(returns + 5, returns, mask) == 1
    assert explained_variance(torch.zeros(1, 4), returns, mask) == 0
    assert explained_variance(-returns, returns, mask).item() == pytest.approx(-3)
    assert explained_variance(returns, torch.ones(1, 4), mask) == 0


def test_sampler_weights_are_truncated_ratios():
    nan = float("nan")
    own = torch.tensor([[-1.0, -2.0, -0.5, nan]], dtype=torch.float64)
    sampler = torch.tensor([[-1.0, -1.5, -3.0, nan]], dtype=torch.float64)
    weights = sampler_weights(own, sampler, torch.tensor([[1.0, 1.0, 1.0, 0.0]]))
    assert weights.tolist() == [pytest.approx([1.0, math.exp(-0.5), 2.0, 1.0])]


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_weighted_advantages_weight_the_policy_loss(seed):
    tensors, mask = case(seed)
    weights = sampler_weights(tensors["old_logprobs"], tensors["logprobs"].roll(1, 0), mask)
    real = mask.bool()
    ratio = (tensors["logprobs"] - tensors["old_logprobs"]).exp()
    plain = torch.maximum(-tensors["advantages"] * ratio, -tensors["advantages"] * ratio.clamp(0.8, 1.2))
    _, metrics = loss_of({**tensors, "advantages": weights * tensors["advantages"]}, mask)
    torch.testing.assert_close(metrics["policy_loss"], (weights * plain)[real].mean())
