import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from ares.config.schema import RlConfig
from ares.datamodules.buffer import RolloutBuffer
from ares.models.t5 import FusionT5Config, T5ForMultimodalGeneration
from ares.models.t5.generation import sample, token_logprobs
from ares.models.t5.loading import value_from_policy
from ares.modules.ppo import run_ppo
from ares.types import AresError, Rollout, Span

PAD, EOS, GOOD, VOCABULARY = 0, 1, range(2, 9), 16
QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
RL = RlConfig(
    lr=1e-2,
    ppo_epochs=2,
    value_warmup_epochs=1,
    global_batch_size=8,
    micro_batch_size=8,
    holdout=0.0,
    warmup_fraction=0.0,
    decay="constant",
)


def tiny_policy(seed: int = 0, dropout: float = 0.0) -> T5ForMultimodalGeneration:
    torch.manual_seed(seed)
    config = FusionT5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        patch_num=2,
        patch_dim=3,
        dropout_rate=dropout,
        feed_forward_proj="gated-gelu",
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=PAD,
        initializer_factor=0.3,
    )
    return T5ForMultimodalGeneration(config).eval()


class TinyFeatures:
    """Two patches of three numbers a problem, drawn from its id."""

    def get(self, pids):
        seeds = [int(hashlib.sha256(pid.encode()).hexdigest()[:8], 16) for pid in pids]
        return np.stack([np.random.default_rng(s).normal(size=(2, 3)).astype(np.float32) for s in seeds])


def make_buffer(
    policy,
    *,
    questions: int = 4,
    k: int = 4,
    seed: int = 0,
    holdout: float = 0.0,
    features=None,
    reference=None,
) -> RolloutBuffer:
    """Sampled rollouts in which every token but EOS is a sentence: 1.0 for a GOOD one, 0.0 for any other."""
    prompts = {f"q{i}": [2 + (i + j) % 13 for j in range(3 + i % 3)] + [EOS] for i in range(questions)}
    generator = torch.Generator().manual_seed(seed)
    rows, scores = [], {}
    for pid, prompt in prompts.items():
        images = None if features is None else torch.from_numpy(features.get([pid]))
        ids, mask = torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.long)
        responses = sample(policy, ids, mask, images, k=k, max_new_tokens=6, generator=generator)
        for j, response in enumerate(responses):
            ends = tuple(t for t, token in enumerate(response) if token != EOS)
            if not ends:
                continue
            inputs = (ids, mask, images, torch.tensor([response]), torch.ones(1, len(response)))
            with torch.no_grad():
                logprobs = tuple(token_logprobs(policy, *inputs)[0].tolist())
                other = (
                    logprobs if reference is None else tuple(token_logprobs(reference, *inputs)[0].tolist())
                )
            text = "".join(chr(97 + token) for token in response)
            spans = tuple(Span(t, t + 1) for t in ends)
            row = Rollout(
                f"{pid}/{j}", pid, j, text, tuple(response), EOS not in response, spans, ends, logprobs, other
            )
            rows.append(row)
            scores[row.row_id] = [float(response[t] in GOOD) for t in ends]
    return RolloutBuffer(rows, scores, prompts, pad_id=PAD, neutral=0.5, holdout=holdout)


class Watch(pl.Callback):
    """What each optimiser step saw: logged metrics, and the gradients before clipping."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients.append({n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        self.metrics.append({name: float(value) for name, value in trainer.logged_metrics.items()})


def train(
    policy, buffer, folder: Path, rl: RlConfig = RL, *, value=None, features=None, callbacks=(), seed=0
):
    value = value_from_policy(policy) if value is None else value
    return run_ppo(
        policy,
        value,
        buffer,
        rl,
        seed=seed,
        features=features,
        checkpoints=folder,
        trainer_arguments={**QUIET, "default_root_dir": folder, "callbacks": list(callbacks)},
    )


def weights(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --------------------------------------------------------------------------------------------------
# One optimiser step
# --------------------------------------------------------------------------------------------------


def first_gradients(tmp_path, micro: int, **changes) -> dict[str, torch.Tensor]:
    policy = tiny_policy().double()
    reference = tiny_policy(seed=9).double()
    features = TinyFeatures()
    buffer = make_buffer(policy, questions=2, features=features, reference=reference)
    assert len({buffer.lengths[i] for i in range(len(buffer))}) > 1
    watch = Watch()
    rl = replace(RL, value_warmup_epochs=0, ppo_epochs=1, micro_batch_size=micro, kl_coef=0.5, **changes)
    train(policy, buffer, tmp_path / f"micro{micro}", rl, features=features, callbacks=[watch])
    assert len(watch.gradients) == 1
    return watch.gradients[0]


def test_gradients_do_not_depend_on_how_a_batch_is_cut(tmp_path):
    whole = first_gradients(tmp_path, 8)
    assert {name.split(".")[0] for name in whole} == {"policy", "value"}
    scale = max(g.abs().max() for g in whole.values())
    for micro in (1, 2, 4):
        parts = first_gradients(tmp_path, micro)
        assert parts.keys() == whole.keys()
        for name in whole:
            torch.testing.assert_close(
                parts[name], whole[name], rtol=1e-5, atol=1e-7 * scale.item(), msg=name
            )


def test_gradients_of_an_optimiser_batch_that_is_not_full(tmp_path):
    """Fewer rows than a whole batch make unequal micro-batches; the denominator counts their tokens all the same."""
    policy = tiny_policy()
    buffer = make_buffer(policy, questions=4)
    found = []
    for micro in (16, 4):
        watch, model = Watch(), tiny_policy()
        rl = replace(RL, value_warmup_epochs=0, ppo_epochs=1, global_batch_size=16, micro_batch_size=micro)
        train(model, buffer, tmp_path / str(micro), rl, callbacks=[watch])
        found.append(watch.gradients[0])
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-3, atol=1e-6)


def test_the_policy_is_its_reference_at_first_and_leaves_it(tmp_path):
    policy, watch = tiny_policy(), Watch()
    train(policy, make_buffer(policy), tmp_path, replace(RL, value_warmup_epochs=0), callbacks=[watch])
    first, last = watch.metrics[0], watch.metrics[-1]
    assert first["train/kl_k3"] == pytest.approx(0, abs=1e-9)
    assert first["train/kl_k1"] == pytest.approx(0, abs=1e-5)
    assert first["train/ratio_mean"] == pytest.approx(1, abs=1e-6)
    assert first["train/clip_fraction"] == 0
    assert last["train/kl_k3"] > 1e-5


def test_gradients_of_policy_and_value_are_clipped_apart(tmp_path):
    policy = tiny_policy()
    value = value_from_policy(policy)
    norms = []

    class After(pl.Callback):
        def on_before_zero_grad(self, trainer, module, optimizer):
            for model in (module.policy, module.value):
                grads = [p.grad for p in model.parameters() if p.grad is not None]
                if grads:
                    norms.append(torch.stack([g.norm() for g in grads]).norm().item())

    limit = 1e-3
    rl = replace(RL, value_warmup_epochs=0, ppo_epochs=1, gradient_clip=limit)
    figures = train(policy, make_buffer(policy), tmp_path, rl, value=value, callbacks=[After()])
    assert figures["train/policy_grad_norm"] > limit
    assert figures["train/value_grad_norm"] > limit
    assert norms == pytest.approx([limit] * len(norms), rel=1e-2)


# --------------------------------------------------------------------------------------------------
# The course of a fit
# --------------------------------------------------------------------------------------------------


def test_warm_up_fits_the_value_model_and_leaves_the_policy_alone(tmp_path):
    policy, watch = tiny_policy(), Watch()
    before, value = weights(policy), value_from_policy(policy)
    buffer = make_buffer(policy, questions=8, holdout=0.3)
    assert buffer.heldout
    rl = replace(RL, value_warmup_epochs=8, ppo_epochs=1)
    train(policy, buffer, tmp_path / "a", replace(rl, ppo_epochs=0), value=value, callbacks=[watch])
    assert same(weights(policy), before)
    losses = [m["train/value_loss"] for m in watch.metrics]
    assert losses[-1] < 0.7 * losses[0]
    assert all("train/policy_loss" not in m for m in watch.metrics)
    figures = train(policy, buffer, tmp_path / "b", rl)
    assert figures["train/explained_variance"] > 0.2
    assert "heldout/explained_variance" in figures
    assert not same(weights(policy), before)


def test_schedule_starts_behind_the_warm_up(tmp_path):
    policy, watch = tiny_policy(), Watch()
    buffer = make_buffer(policy)
    steps = -(-len(buffer) // 8)
    rl = replace(RL, value_warmup_epochs=2, ppo_epochs=2, warmup_fraction=0.5, decay="linear")
    train(policy, buffer, tmp_path, rl, callbacks=[watch])
    rates = [m["train/lr"] / rl.lr for m in watch.metrics]
    assert steps == 2
    assert rates == pytest.approx([0, 0, 0, 0, 0.5, 1, 1, 0.5])


def test_runs_that_differ_in_kl_coef_end_in_different_weights_ever_nearer_to_the_reference(tmp_path):
    ends, divergences = [], []
    for coefficient in (0.0, 0.1, 1.0):
        policy = tiny_policy()
        buffer = make_buffer(policy, questions=8)
        rl = replace(RL, kl_coef=coefficient, ppo_epochs=6)
        figures = train(policy, buffer, tmp_path / str(coefficient), rl)
        ends.append(weights(policy))
        divergences.append(figures["train/kl_k3"])
    assert not same(ends[0], ends[1])
    assert not same(ends[1], ends[2])
    assert divergences[0] > divergences[1] > divergences[2]
    assert divergences[2] < 0.75 * divergences[0]


def test_divergence_in_the_reward_is_inert_while_the_policy_is_its_reference(tmp_path):
    def run(coefficient, reference):
        policy = tiny_policy()
        buffer = make_buffer(policy, reference=reference)
        rl = replace(RL, kl_in="reward", kl_coef=coefficient)
        train(policy, buffer, tmp_path / f"{coefficient}-{reference is None}", rl)
        return weights(policy)

    assert same(run(0.0, None), run(1.0, None))
    other = tiny_policy(seed=5)
    assert not same(run(0.0, other), run(1.0, other))


def test_values_are_computed_once_without_recompute_and_every_epoch_with_it(tmp_path):
    seen = {}

    class Values(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_index):
            if batch_index == 0:
                seen.setdefault(key, []).append(module.old_values.clone())

    for key in (True, False):
        policy = tiny_policy()
        rl = replace(RL, value_warmup_epochs=0, ppo_epochs=3, recompute=key)
        train(policy, make_buffer(policy), tmp_path / str(key), rl, callbacks=[Values()])
    assert len(seen[True]) == len(seen[False]) == 3
    assert not torch.equal(seen[True][0], seen[True][1])
    assert torch.equal(seen[False][0], seen[False][2])


def test_advantages_are_whitened_over_the_training_rows_of_the_whole_buffer(tmp_path):
    policy = tiny_policy()
    buffer = make_buffer(policy, questions=12, holdout=0.3)
    assert buffer.heldout
    found = []

    class Advantages(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_index):
            found.append(module.advantages.clone())

    train(policy, buffer, tmp_path, replace(RL, value_warmup_epochs=0), callbacks=[Advantages()])
    trained = found[-1][buffer.train][buffer.mask[buffer.train].bool()]
    assert trained.mean().item() == pytest.approx(0, abs=1e-5)
    assert trained.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert not found[-1][buffer.heldout].any()


@pytest.mark.parametrize("recompute", [True, False])
def test_a_killed_run_resumes_to_the_same_weights_bit_by_bit(tmp_path, recompute):
    class Killed(Exception):
        pass

    class Kill(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
            if trainer.current_epoch == 2 and batch_index == 1:
                raise Killed

    def run(folder, callbacks=()):
        policy = tiny_policy()
        buffer = make_buffer(policy, questions=6, holdout=0.2)
        value = value_from_policy(policy)
        rl = replace(RL, ppo_epochs=3, micro_batch_size=4, decay="linear", recompute=recompute)
        figures = train(policy, buffer, folder, rl, value=value, callbacks=callbacks)
        return weights(policy), weights(value), figures

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", [Kill()])
    resumed = run(tmp_path / "killed")
    assert same(resumed[0], whole[0])
    assert same(resumed[1], whole[1])
    assert resumed[2] == whole[2]
    # Killed between the end of the fit and that of the step: nothing is trained again.
    again = run(tmp_path / "killed")
    assert same(again[0], whole[0])
    assert again[2] == whole[2]


def test_target_kl_stops_before_the_step_and_a_resumed_run_stays_stopped(tmp_path):
    buffer = make_buffer(tiny_policy())
    rl = replace(RL, value_warmup_epochs=0, ppo_epochs=3)
    one_step = {}

    class First(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
            one_step.setdefault("weights", weights(module.policy))

    free, watch = tiny_policy(), Watch()
    assert train(free, buffer, tmp_path / "free", rl, callbacks=[First()])["train/stopped_early"] == 0
    for _ in range(2):
        stopped = tiny_policy()
        figures = train(stopped, buffer, tmp_path / "stopped", replace(rl, target_kl=1e-7), callbacks=[watch])
        assert same(weights(stopped), one_step["weights"])
        assert figures["train/stopped_early"] == 1
    assert len(watch.metrics) == 2


@pytest.mark.parametrize("objective", ["rloo", "grpo"])
def test_objectives_without_a_value_model(tmp_path, objective):
    policy, features = tiny_policy(), TinyFeatures()
    value = value_from_policy(policy)
    before = weights(value)
    buffer = make_buffer(policy, questions=8, features=features)
    rl = replace(RL, objective=objective, ppo_epochs=3)
    start = good_share(policy, buffer, features)
    figures = train(policy, buffer, tmp_path, rl, value=value, features=features)
    assert same(weights(value), before)
    assert "train/explained_variance" not in figures
    assert good_share(policy, buffer, features) > start + 0.02


def good_share(policy, buffer, features=None) -> float:
    """The probability of a GOOD token among sentences, over the states that the buffer's responses pass."""
    batch = buffer.batch(range(len(buffer)), features)
    states = policy.decoder_states(
        batch["input_ids"],
        batch["attention_mask"],
        batch["image_features"],
        torch.nn.functional.pad(batch["response_ids"], (1, 0))[:, :-1],
    )
    with torch.no_grad():
        probabilities = policy.logits(states).softmax(-1)[batch["response_mask"].bool()]
    return (probabilities[:, list(GOOD)].sum(-1) / probabilities[:, 2:].sum(-1)).mean().item()


def test_a_rewarded_kind_of_sentence_becomes_likely(tmp_path):
    policy = tiny_policy()
    value = value_from_policy(policy)
    rl = replace(RL, ppo_epochs=4, global_batch_size=32, micro_batch_size=32, kl_coef=0.0)
    for number in range(6):
        buffer = make_buffer(policy, questions=16, k=8, seed=number)
        if number == 0:
            start = good_share(policy, buffer)
        train(policy, buffer, tmp_path / str(number), rl, value=value)
    fresh = make_buffer(policy, questions=16, k=8, seed=99)
    assert start < 0.7
    assert good_share(policy, fresh) > 0.9
    assert np.mean(fresh.scores) > 0.9


# --------------------------------------------------------------------------------------------------
# What it refuses
# --------------------------------------------------------------------------------------------------


def test_rollouts_of_another_policy_are_refused(tmp_path):
    policy = tiny_policy()
    before = weights(policy)
    with pytest.raises(AresError, match="roll out afresh"):
        train(policy, make_buffer(tiny_policy(seed=1)), tmp_path)
    assert same(weights(policy), before)


def test_a_single_token_of_another_policy_is_refused(tmp_path):
    policy = tiny_policy()
    buffer = make_buffer(policy, questions=16, k=8)
    tokens = sum(buffer.lengths)
    buffer.logprobs[3, 0] += 0.02
    assert 0.02 / tokens < 1e-4  # the mean alone would let it pass
    with pytest.raises(AresError, match=r"0\.02 at most"):
        train(policy, buffer, tmp_path, replace(RL, global_batch_size=256, micro_batch_size=256))


def test_dropout_is_refused(tmp_path):
    buffer = make_buffer(tiny_policy())
    with pytest.raises(AresError, match="dropout"):
        train(tiny_policy(dropout=0.1), buffer, tmp_path)


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path):
    policy = tiny_policy()
    value = value_from_policy(policy)
    with torch.no_grad():
        value.v_head[2].bias.fill_(float("nan"))
    before = weights(policy)
    with pytest.raises(AresError, match="loss became nan at step 0"):
        train(policy, make_buffer(policy), tmp_path, replace(RL, value_warmup_epochs=0), value=value)
    assert same(weights(policy), before)


def test_a_gradient_that_is_not_finite_stops_before_the_step(tmp_path):
    policy = tiny_policy()

    class Spoil(pl.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            next(module.policy.parameters()).grad[0, 0] = float("inf")

    before = weights(policy)
    with pytest.raises(AresError, match=r"policy's gradient became (inf|nan)"):
        train(policy, make_buffer(policy), tmp_path, replace(RL, value_warmup_epochs=0), callbacks=[Spoil()])
    assert same(weights(policy), before)
