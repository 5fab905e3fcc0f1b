import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.rl.kl import kl_penalty

ESTIMATORS = ("k1", "k2", "k3")
logprob = st.floats(-20, 0)


@settings(deadline=None)
@given(logprob, logprob)
def test_estimators_equal_their_closed_forms(policy, reference):
    mask = torch.ones(1, 1, dtype=torch.float64)
    p, q = (torch.tensor([[x]], dtype=torch.float64) for x in (policy, reference))
    r = reference - policy
    found = {name: kl_penalty(p, q, mask, estimator=name).item() for name in ESTIMATORS}
    assert found["k1"] == pytest.approx(policy - reference)
    assert found["k2"] == pytest.approx(r * r / 2)
    assert found["k3"] == pytest.approx(math.exp(r) - 1 - r, rel=1e-9, abs=1e-9)
    assert found["k3"] >= 0


def test_kl_of_equal_policies_is_zero():
    logprobs = -torch.rand(3, 5)
    for name in ESTIMATORS:
        assert torch.equal(
            kl_penalty(logprobs, logprobs, torch.ones(3, 5), estimator=name), torch.zeros(3, 5)
        )


@pytest.mark.parametrize("name", ["k1", "k3"])
def test_expectation_of_estimators_is_the_kl(name):
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    each = kl_penalty(p.log()[None], q.log()[None], torch.ones(1, 3), estimator=name)
    assert (p * each).sum().item() == pytest.approx((p * (p / q).log()).sum().item())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_padding_has_no_value_and_no_gradient(name):
    logprobs = torch.tensor([[-1.0, -2.0, -1e30]], requires_grad=True)
    reference = torch.tensor([[-1.5, -1.0, float("nan")]])
    penalty = kl_penalty(logprobs, reference, torch.tensor([[1.0, 1.0, 0.0]]), estimator=name)
    penalty.sum().backward()
    assert penalty[0, 2] == 0
    assert logprobs.grad[0, 2] == 0
    assert torch.isfinite(logprobs.grad).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_gradients_agree_with_finite_differences(name):
    torch.manual_seed(0)
    p = -torch.rand(2, 4, dtype=torch.float64)
    q = -torch.rand(2, 4, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    assert torch.autograd.gradcheck(
        lambda x: kl_penalty(x, q, mask, estimator=name).sum(), (p.requires_grad_(),)
    )


def test_k3_gradient_points_to_the_reference():
    logprobs = torch.tensor([[-1.0, -3.0]], requires_grad=True)
    reference = torch.tensor([[-2.0, -2.0]])
    kl_penalty(logprobs, reference, torch.ones(1, 2), estimator="k3").sum().backward()
    assert logprobs.grad[0, 0] > 0 > logprobs.grad[0, 1]


def test_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match="k4"):
        kl_penalty(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1), estimator="k4")
