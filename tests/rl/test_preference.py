"""Preference losses: closed forms, gradients, published conventions, and TRL as an oracle where it is installed."""

import math
from unittest.mock import MagicMock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.rl import preference
from ares.rl.preference import batch_kl, response_sums, token_weights

PAIRED = ("dpo", "ipo", "hinge", "apo_zero")
LOSSES = (*PAIRED, "kto_pair", "kto")
SUMS = torch.tensor(
    [[-4.0, -9.0, -2.5], [-6.0, -3.0, -2.0], [-5.0, -8.0, -3.0], [-5.5, -4.0, -1.0]], dtype=torch.float64
)
logprob = st.floats(-60, 0)


def loss_of(name, *sums, **options):
    return getattr(preference, f"{name}_loss")(*sums, **options)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@settings(deadline=None)
@given(logprob, logprob, logprob, logprob, st.floats(0.01, 1), st.floats(0, 0.4))
def test_losses_equal_their_closed_forms(chosen, rejected, ref_chosen, ref_rejected, beta, epsilon) -> None:
    sums = [torch.tensor([x], dtype=torch.float64) for x in (chosen, rejected, ref_chosen, ref_rejected)]
    up, down = chosen - ref_chosen, rejected - ref_rejected
    h = up - down
    right, wrong = math.log1p(math.exp(-beta * h)), math.log1p(math.exp(beta * h))
    kl_up, kl_down = max(0.0, up), max(0.0, down)
    expected = {
        "dpo": [right],
        "hinge": [max(0.0, 1 - beta * h)],
        "ipo": [(h - 1 / (2 * beta)) ** 2],
        "apo_zero": [1 - sigmoid(beta * up) + sigmoid(beta * down)],
        "kto_pair": [1 - sigmoid(beta * (up - kl_down)), 1 - sigmoid(beta * (kl_up - down))],
        "kto": [1 - sigmoid(beta * up), 1 - sigmoid(-beta * down)],
    }
    for name, values in expected.items():
        assert loss_of(name, *sums, beta=beta).tolist() == pytest.approx(values, rel=1e-9, abs=1e-12), name
    smoothed = loss_of("dpo", *sums, beta=beta, label_smoothing=epsilon)
    assert smoothed.item() == pytest.approx((1 - epsilon) * right + epsilon * wrong, rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_policy_equal_to_the_reference_has_the_loss_of_no_preference(name) -> None:
    neutral = {"dpo": math.log(2), "ipo": 25.0, "hinge": 1.0, "apo_zero": 1.0, "kto_pair": 0.5, "kto": 0.5}
    loss = loss_of(name, SUMS[0], SUMS[1], SUMS[0], SUMS[1], beta=0.1)
    assert loss.tolist() == pytest.approx([neutral[name]] * len(loss))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name) -> None:
    chosen, rejected = (row.clone().requires_grad_() for row in SUMS[:2])
    options = {"detach": False} if name == "kto_pair" else {}

    def function(a, b):
        return loss_of(name, a, b, SUMS[2], SUMS[3], beta=0.2, **options)

    assert torch.autograd.gradcheck(function, (chosen, rejected))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_raise_the_chosen_and_lower_the_rejected_response(name) -> None:
    chosen, rejected = (row.clone().requires_grad_() for row in SUMS[2:])
    loss_of(name, chosen, rejected, SUMS[2], SUMS[3], beta=0.1).sum().backward()
    assert (chosen.grad < 0).all()
    assert (rejected.grad > 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_log_ratios_stay_finite(name) -> None:
    chosen = torch.tensor([-1e4, 0.0], requires_grad=True)
    loss = loss_of(name, chosen, -1e4 - chosen.detach(), torch.zeros(2), torch.zeros(2), beta=1.0)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(chosen.grad).all()


def test_kto_pair_compares_each_side_with_the_kl_of_the_other() -> None:
    options = {"beta": 0.3, "kl_chosen": 0.25, "kl_rejected": 2.0}
    up, down = SUMS[0] - SUMS[2], SUMS[1] - SUMS[3]
    loss = loss_of("kto_pair", *SUMS, **options)
    expected = [1 - sigmoid(0.3 * (x - 2.0)) for x in up.tolist()]
    expected += [1 - sigmoid(0.3 * (0.25 - x)) for x in down.tolist()]
    assert loss.tolist() == pytest.approx(expected)
    own = loss_of("kto_pair", *SUMS, beta=0.3, kl_chosen=batch_kl(up), kl_rejected=batch_kl(down))
    assert torch.equal(loss_of("kto_pair", *SUMS, beta=0.3), own)


def test_kto_weights_sides_of_different_size_around_its_reference_point() -> None:
    loss = loss_of(
        "kto",
        SUMS[0],
        SUMS[1, :1],
        SUMS[2],
        SUMS[3, :1],
        beta=0.5,
        reference_point=0.4,
        desirable_weight=2.0,
        undesirable_weight=0.5,
    )
    expected = [2 * (1 - sigmoid(0.5 * (x - 0.4))) for x in (SUMS[0] - SUMS[2]).tolist()]
    expected.append(0.5 * (1 - sigmoid(0.5 * (0.4 - (SUMS[1, 0] - SUMS[3, 0]).item()))))
    assert loss.tolist() == pytest.approx(expected)


def test_batch_kl_is_never_negative_and_has_no_gradient() -> None:
    assert batch_kl(torch.tensor([-3.0, 1.0])) == 0
    ratios = torch.tensor([1.0, 2.0], requires_grad=True)
    assert batch_kl(ratios) == 1.5
    assert not batch_kl(ratios).requires_grad
    assert batch_kl(ratios, detach=False).requires_grad


def test_sums_of_responses_leave_padding_out() -> None:
    logprobs = torch.tensor([[-1.0, -2.0, float("nan")], [-3.0, -1.0, -2.0]], requires_grad=True)
    weights = torch.tensor([[1.0, 1.0, 0.0], [5.0, 1.0, 2.0]])
    assert response_sums(logprobs, weights).tolist() == [-3.0, -20.0]
    assert response_sums(logprobs, weights, mean=True).tolist() == [-1.5, -2.5]
    response_sums(logprobs, weights).sum().backward()
    assert logprobs.grad.tolist() == [[1.0, 1.0, 0.0], [5.0, 1.0, 2.0]]


def test_token_weights_mark_replacements_insertions_and_deletions() -> None:
    chosen, rejected = [1, 2, 3, 9, 4, 5, 6, 7, 0], [1, 2, 3, 4, 5, 6, 8, 8, 7, 0]
    up, down = token_weights(chosen, rejected)
    # 7, 0 are shared, but are a block of two only
    assert up.tolist() == [1, 1, 1, 5, 1, 1, 1, 5, 5]
    assert down.tolist() == [1] * 6 + [5] * 4
    up, down = token_weights(chosen, rejected, gamma=2.0, min_match=2)
    assert up.tolist() == [1, 1, 1, 2, 1, 1, 1, 1, 1]
    assert down.tolist() == [1] * 6 + [2, 2, 1, 1]


def test_token_weights_normalized_and_masked() -> None:
    chosen, rejected = [1, 2, 3, 9], [1, 2, 3]
    up, down = token_weights(chosen, rejected, normalize=True)
    assert up.tolist() == pytest.approx([1 / 8] * 3 + [5 / 8])
    assert down.sum() == pytest.approx(1)
    up, down = token_weights(chosen, rejected, mask_unchanged=True)
    assert up.tolist() == [0, 0, 0, 1]
    assert down.tolist() == [0, 0, 0]


def test_token_weights_do_not_ignore_frequent_tokens() -> None:
    # difflib's autojunk would drop a token that makes up most of 200 or more
    same = [7] * 300
    up, down = token_weights([*same, 1], [*same, 2])
    assert up.tolist() == [1] * 300 + [5]
    assert down.tolist() == [1] * 300 + [5]


@pytest.mark.parametrize(
    ("name", "theirs"), [("dpo", "sigmoid"), ("hinge", "hinge"), ("ipo", "ipo"), ("apo_zero", "apo_zero")]
)
def test_losses_equal_trl(name, theirs) -> None:
    trainer = pytest.importorskip("trl", reason="needs trl, which is no dependency").DPOTrainer
    torch.manual_seed(0)
    logprobs = -torch.rand(6, 5, dtype=torch.float64)
    mask = torch.tensor([[1] * 5, [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1] * 4 + [0], [1, 0, 0, 0, 0], [1] * 5])
    reference = -3 * torch.rand(6, dtype=torch.float64)
    fake = MagicMock()
    fake.configure_mock(
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[theirs],
        loss_weights=[1.0],
        beta=0.3,
        label_smoothing=0.0,
        use_weighting=False,
    )
    fake.accelerator.device = "cpu"
    fake.accelerator.gather_for_metrics = fake.accelerator.gather = lambda found: found
    zeros = torch.zeros(6, 5)
    outputs = MagicMock(log_probs=logprobs * mask, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    inputs = {
        "input_ids": torch.zeros(6, 6, dtype=torch.long),
        "attention_mask": torch.ones(6, 6),
        "completion_mask": torch.cat([torch.zeros(6, 1, dtype=torch.long), mask], dim=1),
        "ref_chosen_logps": reference[:3],
        "ref_rejected_logps": reference[3:],
    }
    found = trainer._compute_loss(fake, lambda **_: outputs, inputs, return_outputs=False)
    lengths, is_mean = mask.sum(1), name == "ipo"
    sums = response_sums(logprobs, mask.double(), mean=is_mean)
    divided = reference / lengths if is_mean else reference
    own = loss_of(name, sums[:3], sums[3:], divided[:3], divided[3:], beta=0.3)
    assert own.mean().item() == pytest.approx(float(found), rel=1e-9)
