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


def test_gradient_spikes_are_reported_once_in_fifty_steps(capsys) -> None:
    checks = StepChecks("Lower sft.lr.")

    def step(number: int, norm: float) -> None:
        checks.gradient("gradient", norm, SimpleNamespace(global_step=number, current_epoch=0))

    for number in range(9):
        step(number, 100.0 if number == 5 else 2.0)  # nothing is usual yet
    step(9, 2.0)
    step(10, 19.0)
    assert warnings_of(capsys) == []
    step(11, 21.0)
    [warning] = warnings_of(capsys)
    assert warning == "warning: the norm of the gradient is 21 at step 11, and usually 2. Lower sft.lr."
    step(12, 500.0)
    assert warnings_of(capsys) == []
    for number in range(13, 62):
        step(number, 2.0)
    step(62, 500.0)
    assert len(warnings_of(capsys)) == 1


def test_divergence_spike_is_reported_from_the_first_step_on(capsys) -> None:
    checks = StepChecks("Lower rl.lr.")
    for number, value in enumerate([0.0, 0.001, 0.2, 12.9, 12.9]):
        checks.divergence(value, SimpleNamespace(global_step=number, current_epoch=0))
    [warning] = warnings_of(capsys)
    assert "KL divergence from the reference is 12.9 at step 3, and usually 0.001" in warning


def test_rl_reports_its_divergence(tmp_path: Path, capsys) -> None:
    policy = tiny_policy()
    rl = replace(NO_WARM_UP, lr=1.0, kl_coef=0.0, gradient_clip=None)
    train(policy, make_buffer(policy), tmp_path, rl)
    assert any("KL divergence" in warning for warning in warnings_of(capsys))
