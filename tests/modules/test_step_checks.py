"""What stops a fit before a step, and what is worth a warning."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from ares.modules.checks import StepChecks
from ares.types import AresError
from tests.support.ppo import NO_WARM_UP, make_buffer, tiny_policy, train
from tests.support.supervised import fit, t5, vlm

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("lr", [1e9, 1e30])
@pytest.mark.parametrize("build", [t5, vlm])
def test_ruinous_learning_rate_ends_a_fit(tmp_path: Path, build, lr: float) -> None:
    with pytest.raises(AresError, match=r"(loss|gradient) became (nan|inf) at step \d+ .* Lower sft\.lr"):
        fit(build(), tmp_path, epochs=3, lr=lr)


@pytest.mark.parametrize("build", [t5, vlm])
@pytest.mark.parametrize("clip", [1.0, None])
def test_gradient_that_is_not_finite_changes_nothing(tmp_path: Path, build, clip) -> None:
    class Spoil(pl.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            next(module.policy.trained())[1].grad[0, 0] = float("inf")

    policy = build()
    before = [weight.detach().clone() for _, weight in policy.trained()]
    with pytest.raises(AresError, match=r"gradient became (inf|nan) at step 0"):
        fit(policy, tmp_path, callbacks=[Spoil()], gradient_clip=clip)
    assert all(torch.equal(weight, old) for (_, weight), old in zip(policy.trained(), before, strict=True))


def warnings_of(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: the ")]


def observed(checks: StepChecks, look: str, values: list[float]) -> StepChecks:
    """The checks after one step with each of these numbers."""
    for number, value in enumerate(values):
        module = SimpleNamespace(global_step=number, current_epoch=0)
        arguments = ("gradient", value, module) if look == "gradient" else (value, module)
        getattr(checks, look)(*arguments)
    return checks


@pytest.mark.parametrize(("clip", "usual"), [(None, 2.0), (1.0, 0.2)])
def test_gradient_spikes_are_reported_once_with_their_number(capsys, clip, usual: float) -> None:
    checks = StepChecks("sft", clip)
    first = [100.0 if number == 5 else usual for number in range(10)]  # nothing is usual yet
    observed(checks, "gradient", [*first, 19.0, 21.0, *[usual] * 60, 500.0])
    assert warnings_of(capsys) == []
    checks.report()
    checks.report()
    [warning] = warnings_of(capsys)
    remedy = "Lower sft.lr, or set sft.gradient_clip." if clip is None else "Lower sft.lr."
    assert warning == (
        f"warning: the norm of the gradient was 21 at step 11, usually {usual:g}, the first of 2 such steps. {remedy}"
    )


@pytest.mark.parametrize(
    ("clip", "values"),
    [
        (1.0, [0.7] * 60 + [31.5, 0.7, 64.5]),  # clipped, as an adapter's are now and then
        (None, [0.01] * 60 + [0.9]),
        (None, [0.7] * 60 + [6.9]),
    ],
)
def test_harmless_norms_are_not_reported(capsys, clip, values: list[float]) -> None:
    observed(StepChecks("lora", clip), "gradient", values).report()
    assert warnings_of(capsys) == []


def test_divergence_spike_is_reported_from_the_second_step_on(capsys) -> None:
    checks = StepChecks("rl", 1.0, log_ratio_clamp=20.0)
    observed(checks, "divergence", [0.0, 0.001, 0.2, 12.9, 12.9]).report()
    [warning] = warnings_of(capsys)
    assert "KL divergence from the reference was 12.9 at step 3, usually 0.001" in warning
    assert "raise rl.kl_coef" in warning


@pytest.mark.parametrize("values", [[0.01] * 40 + [1.9], [6.0, 6.1, 7.0], [0.9] * 20 + [8.0]])
def test_divergence_that_grows_is_no_spike(capsys, values: list[float]) -> None:
    observed(StepChecks("rl", 1.0), "divergence", values).report()
    assert warnings_of(capsys) == []


def test_spikes_before_a_number_that_is_not_finite_are_reported(capsys) -> None:
    checks = StepChecks("rl", None, log_ratio_clamp=None)
    observed(checks, "divergence", [0.0, 12.9])
    with pytest.raises(AresError, match=r"Lower rl\.lr, or set rl\.gradient_clip and rl\.log_ratio_clamp\.$"):
        observed(checks, "gradient", [float("nan")])
    assert len(warnings_of(capsys)) == 1


def test_rl_reports_its_divergence(tmp_path: Path, capsys) -> None:
    policy = tiny_policy()
    rl = replace(NO_WARM_UP, lr=1.0, kl_coef=0.0, gradient_clip=None)
    train(policy, make_buffer(policy), tmp_path, rl)
    assert any("KL divergence" in warning for warning in warnings_of(capsys))
