"""Every PPO option takes effect: its results against formulas computed independently here."""

import math
from dataclasses import replace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from ares.config.schema import RlConfig
from ares.modules.ppo_module import PPOModule
from ares.modules.targets import epoch_targets
from ares.rl.objectives import load_objective
from tests.support.policies import number_policy
from tests.support.ppo import (
    NO_WARM_UP,
    RL,
    logprobs_of,
    make_buffer,
    module_and_batch,
    new_value,
    train,
)

# --------------------------------------------------------------------------------------------------
# The loss of a policy that has moved away from the rollouts
# --------------------------------------------------------------------------------------------------


def clamp(x: float, low: float, high: float) -> float:
    return max(low, min(high, x))


def expected_losses(tokens: list[tuple[float, ...]], rl: RlConfig) -> dict[str, float]:
    """The means over (log ratio, advantage, return, old value) of tokens; the value model returns 0."""
    policy_loss = value_loss = clipped = 0.0
    for log_ratio, advantage, target, old_value in tokens:
        if rl.log_ratio_clamp is not None:
            log_ratio = clamp(log_ratio, -rl.log_ratio_clamp, rl.log_ratio_clamp)
        ratio = math.exp(log_ratio)
        near = clamp(ratio, 1 - rl.clip_range, 1 + rl.clip_range)
        policy_loss -= min(ratio * advantage, near * advantage)
        clipped += near * advantage < ratio * advantage
        error = target**2
        if rl.value_clip_range is not None:
            error = max(
                error,
                (old_value + clamp(-old_value, -rl.value_clip_range, rl.value_clip_range) - target) ** 2,
            )
        value_loss += error
    count = len(tokens)
    return {
        "policy_loss": policy_loss / count,
        "value_loss": value_loss / count,
        "clip_fraction": clipped / count,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"clip_range": 0.05},
        {"clip_range": 0.4},
        {"value_clip_range": 0.1},
        {"log_ratio_clamp": None},
        {"log_ratio_clamp": 0.3},
        {"vf_coef": 0.3},
    ],
    ids=str,
)
def test_loss_of_a_policy_away_from_the_rollouts(changes: dict[str, Any], tiny_policy) -> None:
    rl = replace(NO_WARM_UP, kl_coef=0.0, log_ratio_clamp=1.0)
    rl = replace(rl, **changes)
    module, batch = module_and_batch(tiny_policy, rl, current_epoch=1)
    generator = torch.Generator().manual_seed(1)
    mask = batch["response_mask"].bool()
    noise = torch.randn(mask.shape, generator=generator)
    with torch.no_grad():
        logprobs = logprobs_of(module.policy, batch)
    batch["old_logprobs"] = logprobs + noise
    module.old_values = torch.randn(module.returns.shape, generator=generator)
    of = [table[batch["places"]][mask].tolist() for table in (module.advantages, module.returns)]
    old_values = module.old_values[batch["places"]][mask].tolist()
    tokens = list(zip((-noise[mask]).tolist(), *of, old_values, strict=True))
    loss = float(module.training_step(batch, 0).detach())
    expected = expected_losses(tokens, rl)
    assert 0 < expected["clip_fraction"] < 1
    found = {name: float(module._sums[name]) for name in expected}
    assert found == pytest.approx(expected, rel=1e-5)
    assert loss == pytest.approx(expected["policy_loss"] + rl.vf_coef * expected["value_loss"], rel=1e-5)


# --------------------------------------------------------------------------------------------------
# The targets of an epoch
# --------------------------------------------------------------------------------------------------


def advantage(rewards: list[float], values: list[float], t: int, gamma: float, lam: float) -> float:
    """Σ (γλ)^l δ_{t+l}, term by term."""
    after = [*values[1:], 0.0]
    return sum(
        (gamma * lam) ** (s - t) * (rewards[s] + gamma * after[s] - values[s]) for s in range(t, len(rewards))
    )


@pytest.mark.parametrize(
    "changes",
    [{}, {"gamma": 0.7}, {"lam": 0.5}, {"whiten": False}, {"whiten": False, "gamma": 0.8, "lam": 0.6}],
    ids=str,
)
def test_epoch_advantages_and_returns_follow_the_formulas(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rl = replace(RL, **changes)
    buffer = make_buffer(number_policy(), questions=3)
    values = torch.randn(buffer.rewards.shape, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr("ares.modules.targets._BLOCK", 30)  # several blocks
    advantages, returns = epoch_targets(load_objective("ppo"), buffer, buffer.rewards, values, rl)
    rows = [buffer.tokens(row) for row in range(len(buffer))]
    expected = torch.tensor(
        [
            advantage(buffer.rewards[row].tolist(), values[row].tolist(), t, rl.gamma, rl.lam)
            for row in rows
            for t in range(row.stop - row.start)
        ]
    )
    torch.testing.assert_close(returns, expected + values, rtol=1e-5, atol=1e-5)
    if rl.whiten:
        expected = (expected - expected.mean()) / expected.std(correction=0)
    torch.testing.assert_close(advantages, expected, rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------------------------
# The first step of the optimizer
# --------------------------------------------------------------------------------------------------


class FirstStep(pl.Callback):
    """Records the weights before and after the first step and its gradients, by name."""

    def __init__(self) -> None:
        self.before: dict[str, torch.Tensor] = {}
        self.after: dict[str, torch.Tensor] = {}
        self.gradients: dict[str, torch.Tensor] = {}

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.before = {name: weight.detach().clone() for name, weight in _trained(module)}
        self.gradients = {n: weight.grad.clone() for n, weight in _trained(module) if weight.grad is not None}

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        self.after = {name: weight.detach().clone() for name, weight in _trained(module)}


def _trained(module: PPOModule) -> list[tuple[str, torch.nn.Parameter]]:
    models = {"policy": module.policy, "value": module.value}
    return [
        (f"{part}.{name}", weight)
        for part, model in models.items()
        if model is not None
        for name, weight in model.trained()
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lr": 3e-3},
        {"value_lr": 2e-3},
        {"adam_eps": 0.5},
        {"weight_decay": 3.0},
        {"gradient_clip": 1e-2, "adam_eps": 0.5},
    ],
    ids=str,
)
def test_first_step_is_adamw(tmp_path, changes: dict[str, Any], tiny_policy) -> None:
    """p − lr·w·p − lr·g/(|g| + eps): Adam's first moments, corrected, are the gradient itself."""
    settings = replace(NO_WARM_UP, ppo_epochs=1, global_batch_size=64, gradient_clip=None)
    rl = replace(settings, **changes)
    policy, step = tiny_policy().double(), FirstStep()
    buffer = make_buffer(policy, reference=tiny_policy(seed=9).double())
    train(policy, buffer, tmp_path, rl, value=new_value(policy), callbacks=[step])
    norms = {
        model: math.sqrt(
            sum(float(g.square().sum()) for n, g in step.gradients.items() if n.startswith(model))
        )
        for model in ("policy", "value")
    }
    for name, gradient in step.gradients.items():
        model = name.split(".")[0]
        rate = rl.lr if model == "policy" or rl.value_lr is None else rl.value_lr
        decay = 0.0 if "layer_norm" in name or "bias" in name else rl.weight_decay
        if rl.gradient_clip is not None:
            gradient = gradient * min(1.0, rl.gradient_clip / norms[model])
        before = step.before[name]
        expected = before * (1 - rate * decay) - rate * gradient / (gradient.abs() + rl.adam_eps)
        torch.testing.assert_close(step.after[name], expected, rtol=1e-5, atol=1e-7, msg=name)


# --------------------------------------------------------------------------------------------------
# Rollouts of another sampler
# --------------------------------------------------------------------------------------------------


class FirstAdvantages(pl.Callback):
    """Keeps the advantages of the first epoch."""

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        if trainer.global_step == 0:
            self.advantages = module.advantages.clone()


@pytest.mark.parametrize("objective", ["ppo", "rloo"])
@pytest.mark.parametrize("correct", [True, False])
def test_sampler_correction_weights_the_advantages(
    tmp_path, objective: str, correct: bool, tiny_policy
) -> None:
    found = []
    for gap in (None, 0.3, -1.2):
        buffer, watch = make_buffer(tiny_policy()), FirstAdvantages()
        buffer.correct_sampler = correct
        if gap is not None:  # otherwise the policy itself wrote the rollouts
            buffer.rollouts.sampler_logprobs[:] = buffer.rollouts.logprobs + gap
        rl = replace(NO_WARM_UP, objective=objective, ppo_epochs=1)
        train(tiny_policy(), buffer, tmp_path / str(gap), rl, callbacks=[watch])
        found.append(watch.advantages)
    own, below, above = found
    torch.testing.assert_close(below, own * (math.exp(-0.3) if correct else 1.0))
    torch.testing.assert_close(above, own * (2.0 if correct else 1.0))
