"""A PPO fit: its optimizer steps, its schedule, resuming, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from ares.types import AresError
from tests.support.ppo import (
    NO_WARM_UP,
    RL,
    TinyFeatures,
    Watch,
    good_probability,
    make_buffer,
    new_value,
    same,
    train,
    weights,
)

# --------------------------------------------------------------------------------------------------
# One optimizer step
# --------------------------------------------------------------------------------------------------


def first_gradients(tiny_policy, tmp_path, micro: int, **changes) -> dict[str, torch.Tensor]:
    features = TinyFeatures()
    policy = tiny_policy(features=features).double()
    reference = tiny_policy(seed=9, features=features).double()
    buffer = make_buffer(policy, questions=2, reference=reference)
    assert len({buffer.lengths[i] for i in range(len(buffer))}) > 1
    watch = Watch()
    rl = replace(NO_WARM_UP, ppo_epochs=1, micro_batch_size=micro, kl_coef=0.5, **changes)
    train(policy, buffer, tmp_path / f"micro{micro}", rl, callbacks=[watch])
    assert len(watch.gradients) == 1
    return watch.gradients[0]


def test_gradients_do_not_depend_on_micro_batch_size(tmp_path, tiny_policy):
    expected = first_gradients(tiny_policy, tmp_path, 8)
    assert {name.split(".")[0] for name in expected} == {"policy", "value"}
    scale = max(g.abs().max() for g in expected.values())
    for micro in (1, 2, 4):
        parts = first_gradients(tiny_policy, tmp_path, micro)
        assert parts.keys() == expected.keys()
        for name in expected:
            torch.testing.assert_close(
                parts[name], expected[name], rtol=1e-5, atol=1e-7 * scale.item(), msg=name
            )


def test_gradients_of_a_partial_optimizer_batch(tmp_path, tiny_policy):
    """A batch with fewer rows has micro-batches of unequal size; the denominator still counts all their tokens."""
    policy = tiny_policy()
    buffer = make_buffer(policy, questions=4)
    found = []
    for micro in (16, 4):
        watch, model = Watch(), tiny_policy()
        rl = replace(NO_WARM_UP, ppo_epochs=1, global_batch_size=16, micro_batch_size=micro)
        train(model, buffer, tmp_path / str(micro), rl, callbacks=[watch])
        found.append(watch.gradients[0])
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-3, atol=1e-6)


def test_kl_is_zero_at_first_and_then_grows(tmp_path, tiny_policy):
    policy, watch = tiny_policy(), Watch()
    train(policy, make_buffer(policy), tmp_path, NO_WARM_UP, callbacks=[watch])
    first, last = watch.metrics[0], watch.metrics[-1]
    assert first["train/kl_k3"] == pytest.approx(0, abs=1e-9)
    assert first["train/kl_k1"] == pytest.approx(0, abs=1e-5)
    assert first["train/ratio_mean"] == pytest.approx(1, abs=1e-6)
    assert first["train/clip_fraction"] == 0
    assert last["train/kl_k3"] > 1e-5


def test_policy_and_value_gradients_are_clipped_separately(tmp_path, tiny_policy):
    policy = tiny_policy()
    value = new_value(policy)
    norms = []

    class After(pl.Callback):
        def on_before_zero_grad(self, trainer, module, optimizer):
            for model in (module.policy, module.value):
                grads = [weight.grad for _, weight in model.trained() if weight.grad is not None]
                if grads:
                    norms.append(torch.stack([g.norm() for g in grads]).norm().item())

    limit = 1e-3
    rl = replace(NO_WARM_UP, ppo_epochs=1, gradient_clip=limit)
    metrics = train(policy, make_buffer(policy), tmp_path, rl, value=value, callbacks=[After()])
    assert metrics["train/policy_grad_norm"] > limit
    assert metrics["train/value_grad_norm"] > limit
    assert norms == pytest.approx([limit] * len(norms), rel=1e-2)


# --------------------------------------------------------------------------------------------------
# A fit
# --------------------------------------------------------------------------------------------------


def test_warm_up_trains_only_the_value_model(tmp_path, tiny_policy):
    policy, watch = tiny_policy(), Watch()
    before, value = weights(policy), new_value(policy)
    buffer = make_buffer(policy, questions=8, holdout=0.3)
    assert buffer.heldout
    rl = replace(RL, value_warmup_epochs=8, ppo_epochs=1)
    train(policy, buffer, tmp_path / "a", replace(rl, ppo_epochs=0), value=value, callbacks=[watch])
    assert same(weights(policy), before)
    losses = [m["train/value_loss"] for m in watch.metrics]
    steps = len(losses) // 8
    assert sum(losses[-steps:]) < 0.9 * sum(losses[:steps])
    assert all("train/policy_loss" not in m for m in watch.metrics)
    metrics = train(policy, buffer, tmp_path / "b", rl)
    assert metrics["train/explained_variance"] > 0.1
    assert "heldout/explained_variance" in metrics
    assert not same(weights(policy), before)


def test_schedule_starts_after_the_warm_up(tmp_path, tiny_policy):
    policy, watch = tiny_policy(), Watch()
    buffer = make_buffer(policy)
    steps = -(-len(buffer) // 8)
    rl = replace(RL, value_warmup_epochs=2, ppo_epochs=2, warmup_fraction=0.5, decay="linear")
    train(policy, buffer, tmp_path, rl, callbacks=[watch])
    rates = [m["train/lr"] / rl.lr for m in watch.metrics]
    assert steps == 2
    assert rates == pytest.approx([0, 0, 0, 0, 0.5, 1, 1, 0.5])


def test_larger_kl_coef_stays_closer_to_the_reference(tmp_path, tiny_policy):
    ends, divergences = [], []
    for coefficient in (0.0, 0.1, 1.0):
        policy = tiny_policy()
        buffer = make_buffer(policy, questions=8)
        rl = replace(RL, kl_coef=coefficient, ppo_epochs=6)
        metrics = train(policy, buffer, tmp_path / str(coefficient), rl)
        ends.append(weights(policy))
        divergences.append(metrics["train/kl_k3"])
    assert not same(ends[0], ends[1])
    assert not same(ends[1], ends[2])
    assert divergences[0] > divergences[1] > divergences[2]
    assert divergences[2] < 0.75 * divergences[0]


def test_kl_in_reward_has_no_effect_if_rollout_policy_is_the_reference(tmp_path, tiny_policy):
    def run(coefficient, reference):
        policy = tiny_policy()
        buffer = make_buffer(policy, reference=reference)
        rl = replace(RL, kl_in="reward", kl_coef=coefficient)
        train(policy, buffer, tmp_path / f"{coefficient}-{reference is None}", rl)
        return weights(policy)

    assert same(run(0.0, None), run(1.0, None))
    other = tiny_policy(seed=5)
    assert not same(run(0.0, other), run(1.0, other))


def test_values_are_computed_every_epoch_only_with_recompute(tmp_path, tiny_policy):
    seen = {}

    class Values(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_index):
            if batch_index == 0:
                seen.setdefault(key, []).append(module.old_values.clone())

    for key in (True, False):
        policy = tiny_policy()
        rl = replace(NO_WARM_UP, ppo_epochs=3, recompute=key)
        train(policy, make_buffer(policy), tmp_path / str(key), rl, callbacks=[Values()])
    assert len(seen[True]) == len(seen[False]) == 3
    assert not torch.equal(seen[True][0], seen[True][1])
    assert torch.equal(seen[False][0], seen[False][2])


def test_advantages_are_whitened_over_all_training_rows(tmp_path, tiny_policy):
    policy = tiny_policy()
    buffer = make_buffer(policy, questions=12, holdout=0.3)
    assert buffer.heldout
    found = []

    class Advantages(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_index):
            found.append(module.advantages.clone())

    train(policy, buffer, tmp_path, NO_WARM_UP, callbacks=[Advantages()])
    trained = torch.cat([found[-1][buffer.tokens(row)] for row in buffer.train])
    assert trained.mean().item() == pytest.approx(0, abs=1e-5)
    assert trained.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert not any(found[-1][buffer.tokens(row)].any() for row in buffer.heldout)


@pytest.mark.parametrize("recompute", [True, False])
def test_resumed_run_ends_in_bitwise_equal_weights(tmp_path, recompute, tiny_policy):
    class Killed(Exception):
        pass

    class Kill(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
            if trainer.current_epoch == 2 and batch_index == 1:
                raise Killed

    def run(folder, callbacks=()):
        policy = tiny_policy()
        buffer = make_buffer(policy, questions=6, holdout=0.2)
        value = new_value(policy)
        rl = replace(RL, ppo_epochs=3, micro_batch_size=4, decay="linear", recompute=recompute)
        metrics = train(policy, buffer, folder, rl, value=value, callbacks=callbacks)
        return weights(policy), weights(value), metrics

    complete = run(tmp_path / "complete")
    with pytest.raises(Killed):
        run(tmp_path / "killed", [Kill()])
    resumed = run(tmp_path / "killed")
    assert same(resumed[0], complete[0])
    assert same(resumed[1], complete[1])
    assert resumed[2] == complete[2]
    # Killed after the fit but before the end of the step: nothing is trained again.
    again = run(tmp_path / "killed")
    assert same(again[0], complete[0])
    assert again[2] == complete[2]


def test_target_kl_stops_before_the_step_and_after_resuming(tmp_path, tiny_policy):
    buffer = make_buffer(tiny_policy())
    rl = replace(NO_WARM_UP, ppo_epochs=3)
    one_step = {}

    class First(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
            one_step.setdefault("weights", weights(module.policy))

    free, watch = tiny_policy(), Watch()
    assert train(free, buffer, tmp_path / "free", rl, callbacks=[First()])["train/stopped_early"] == 0
    for _ in range(2):
        stopped = tiny_policy()
        metrics = train(stopped, buffer, tmp_path / "stopped", replace(rl, target_kl=1e-7), callbacks=[watch])
        assert same(weights(stopped), one_step["weights"])
        assert metrics["train/stopped_early"] == 1
    assert len(watch.metrics) == 2


@pytest.mark.parametrize("objective", ["rloo", "grpo"])
def test_objectives_without_a_value_model(tmp_path, objective, tiny_policy):
    policy = tiny_policy(features=TinyFeatures())
    value = new_value(policy)
    before = [(weight, weight.detach().clone()) for _, weight in value.trained()]
    buffer = make_buffer(policy, questions=8)
    rl = replace(RL, objective=objective, ppo_epochs=3)
    start = good_probability(policy, buffer)
    metrics = train(policy, buffer, tmp_path, rl, value=value)
    assert all(torch.equal(weight, copy) for weight, copy in before)
    assert "train/explained_variance" not in metrics
    assert good_probability(policy, buffer) > start + 0.02


def test_rewarded_sentences_become_likely(tmp_path, tiny_policy):
    policy = tiny_policy()
    value = new_value(policy)
    rl = replace(RL, ppo_epochs=4, global_batch_size=32, micro_batch_size=32, kl_coef=0.0)
    for number in range(6):
        buffer = make_buffer(policy, questions=16, k=8, seed=number)
        if number == 0:
            start = good_probability(policy, buffer)
        train(policy, buffer, tmp_path / str(number), rl, value=value)
    fresh = make_buffer(policy, questions=16, k=8, seed=99)
    assert start < 0.7
    assert good_probability(policy, fresh) > 0.9
    assert np.mean(fresh.scores) > 0.9


# --------------------------------------------------------------------------------------------------
# What it refuses
# --------------------------------------------------------------------------------------------------


def test_rollouts_of_another_policy_are_refused(tmp_path, tiny_policy):
    policy = tiny_policy()
    before = weights(policy)
    with pytest.raises(AresError, match="roll out afresh"):
        train(policy, make_buffer(tiny_policy(seed=1)), tmp_path)
    assert same(weights(policy), before)


def test_single_token_of_another_policy_is_refused(tmp_path, tiny_policy):
    policy = tiny_policy()
    buffer = make_buffer(policy, questions=16, k=8)
    tokens = sum(buffer.lengths)
    buffer.logprobs[buffer.tokens(3)][0] += 0.02
    assert 0.02 / tokens < 1e-4  # the mean alone would let it pass
    with pytest.raises(AresError, match=r"0\.02 at most"):
        train(policy, buffer, tmp_path, replace(RL, global_batch_size=256, micro_batch_size=256))


def test_dropout_is_refused(tmp_path, tiny_policy):
    buffer = make_buffer(tiny_policy())
    with pytest.raises(AresError, match="dropout"):
        train(tiny_policy(dropout=0.1), buffer, tmp_path)


def test_non_finite_loss_stops_before_the_step(tmp_path, tiny_policy):
    policy = tiny_policy()
    value = new_value(policy)
    with torch.no_grad():
        value.head[2].bias.fill_(float("nan"))
    before = weights(policy)
    with pytest.raises(AresError, match="loss became nan at step 0"):
        train(policy, make_buffer(policy), tmp_path, NO_WARM_UP, value=value)
    assert same(weights(policy), before)


def test_non_finite_gradient_stops_before_the_step(tmp_path, tiny_policy):
    policy = tiny_policy()

    class Spoil(pl.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            next(module.policy.trained())[1].grad[0, 0] = float("inf")

    before = weights(policy)
    with pytest.raises(AresError, match=r"policy's gradient became (inf|nan)"):
        train(policy, make_buffer(policy), tmp_path, NO_WARM_UP, callbacks=[Spoil()])
    assert same(weights(policy), before)
