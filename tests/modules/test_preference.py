"""Preference optimization as a fit: it learns, resumes exactly, and does not depend on how batches are divided."""

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import pytorch_lightning as pl
import torch

from ares.datamodules.pairs import PairData
from ares.modules.preference_module import PreferenceModule
from ares.types import AresError
from tests.support.interrupting import KillAt, Killed
from tests.support.ppo import same, tiny_policy, weights
from tests.support.preference import PREFER, by_loss, examples, make_pairs, pair_buffer, prefer

OTHERS = ("ipo", "hinge", "ddpo", "kto_pair", "apo_zero")
LOSSES = ("dpo", "kto", *(pytest.param(loss, marks=pytest.mark.slow) for loss in OTHERS))
NEUTRAL = {"dpo": math.log(2), "ddpo": math.log(2), "ipo": 1.0, "hinge": 1.0, "kto_pair": 0.5, "kto": 0.5, "apo_zero": 1.0}  # fmt: skip


class Steps(pl.Callback):
    """Records the metrics of every optimizer step."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        if len(self.metrics) < trainer.global_step:
            self.metrics.append({name: float(value) for name, value in trainer.logged_metrics.items()})


@pytest.mark.parametrize("loss", LOSSES)
def test_fit_prefers_the_chosen_responses(tmp_path: Path, monkeypatch, loss) -> None:
    policy, steps = tiny_policy(), Steps()
    settings = by_loss(loss, epochs=5)
    pairs = make_pairs(policy)
    buffer = pair_buffer(policy, pairs, ddpo=settings.ddpo if loss == "ddpo" else None)
    monkeypatch.setattr("ares.datamodules.pairs.token_weights", None)  # ddpo's weights are computed once
    metrics = prefer(policy, buffer, tmp_path, settings, callbacks=[steps])
    first = steps.metrics[0]
    # The policy is the reference before its first step.
    assert first["train/loss"] == pytest.approx(NEUTRAL[loss], abs=1e-5)
    assert abs(first["train/margin"]) < 1e-5
    assert first["train/kl"] < 1e-10
    assert metrics["train/accuracy"] == 1.0
    assert metrics["train/margin"] > (0.05 if loss == "ddpo" else 0.3)  # ddpo has means over tokens
    assert metrics["train/kl"] > 0


def test_length_norm_takes_means_over_tokens(tmp_path: Path) -> None:
    policy, steps = tiny_policy(), Steps()
    pairs = make_pairs(policy)
    settings = by_loss("dpo", epochs=1, length_norm=True, global_batch_size=len(pairs))
    prefer(policy, pair_buffer(policy, pairs), tmp_path, settings, callbacks=[steps])
    [step] = steps.metrics
    for side in ("chosen", "rejected"):
        means = [fmean(getattr(pair, side).ref_logprobs) for pair in pairs]
        assert step[f"train/logp_{side}"] == pytest.approx(fmean(means), abs=1e-5)
    assert {f"train/reward_{side}" for side in ("chosen", "rejected")} <= step.keys()


@pytest.mark.slow
def test_vision_language_policy_prefers_the_chosen_responses(tmp_path: Path) -> None:
    policy = tiny_policy(kind="vlm")
    metrics = prefer(policy, pair_buffer(policy, make_pairs(policy)), tmp_path, by_loss("kto", epochs=5))
    assert metrics["train/accuracy"] == 1.0


def test_heldout_pairs_are_measured_and_not_trained_on(tmp_path: Path) -> None:
    policy = tiny_policy()
    pairs = make_pairs(policy)
    with_them = prefer(policy, pair_buffer(policy, pairs, heldout=["q0", "q3"]), tmp_path / "a")
    other = tiny_policy()
    without = prefer(
        other, pair_buffer(other, [p for p in pairs if p.pid not in ("q0", "q3")]), tmp_path / "b"
    )
    assert same(weights(policy), weights(other))
    assert {name for name in with_them if name.startswith("heldout/")} == {
        f"heldout/{name}" for name in ("accuracy", "margin", "reward_chosen", "reward_rejected", "kl")
    }
    assert with_them["heldout/margin"] != 0
    assert not any(name.startswith("heldout/") for name in without)


@pytest.mark.parametrize("loss", [pytest.param("dpo", marks=pytest.mark.slow), "kto"])
def test_fit_resumes_inside_epochs(tmp_path: Path, loss) -> None:
    def run(folder: Path, *callbacks: pl.Callback, minutes: float = 0):
        policy = tiny_policy()
        buffer = pair_buffer(policy, make_pairs(policy, 8), heldout=["q1"])
        metrics = prefer(policy, buffer, folder, by_loss(loss), callbacks=callbacks, minutes=minutes)
        return weights(policy), metrics

    expected = run(tmp_path / "complete", minutes=10)
    for epoch, batch in [(1, 3), (2, 0)]:
        with pytest.raises(Killed):
            run(tmp_path / "killed", KillAt(epoch, batch))
    ends = run(tmp_path / "killed")
    assert same(ends[0], expected[0])
    assert ends[1] == expected[1]


@pytest.mark.parametrize("loss", [pytest.param("kto_pair", marks=pytest.mark.slow), "kto"])
def test_fit_does_not_depend_on_micro_batches(tmp_path: Path, loss) -> None:
    found = []
    for micro in (1, 4):
        policy = tiny_policy().double()
        buffer = pair_buffer(policy, make_pairs(policy, 8))
        settings = by_loss(loss, epochs=1, micro_batch_size=micro)
        prefer(policy, buffer, tmp_path / str(micro), settings, precision="64-true")
        found.append(weights(policy))
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, rtol=0, atol=1e-6)


def test_pairs_of_another_policy_are_refused(tmp_path: Path) -> None:
    policy = tiny_policy()
    pairs = make_pairs(policy, reference=tiny_policy(seed=9))
    with pytest.raises(
        AresError, match=r"does not give the pairs their stored probabilities .* of this policy"
    ):
        prefer(policy, pair_buffer(policy, pairs), tmp_path)


def test_sides_of_pairs_share_the_encoding_of_their_prompt() -> None:
    policy = tiny_policy(kind="vlm")
    buffer = pair_buffer(policy, make_pairs(policy, 2, each=2))
    batch = buffer.batch([0, 1, 2])
    distinct, groups = batch["inputs"].distinct()
    assert len(distinct) == len({buffer.question[row] for row in (0, 1, 2)})
    sides = [groups[response] for response in batch["responses"]]
    assert sides[:3] == sides[3:]
    assert max(len(rows) for rows in buffer.groups()) == 2


def test_responses_of_several_pairs_are_computed_once() -> None:
    policy = tiny_policy()
    [first, second] = make_pairs(policy, 1, each=2)
    crossed = [
        replace(first, row_id=f"q0/{n}", rejected=side)
        for n, side in ((2, second.chosen), (3, second.rejected))
    ]
    pairs = [first, second, *crossed]
    data = PairData(pair_buffer(policy, pairs), global_batch=4, micro=4, world=1, seed=0)
    module, batch = PreferenceModule(policy, data, PREFER), data.buffer.batch(range(4))
    assert len(batch["response_ids"]) == len(batch["inputs"]) == 4  # of eight sides
    weights = torch.rand_like(batch["response_mask"]) * batch["response_mask"]
    own = module._logprobs(batch)
    (own * weights).sum().backward()
    touched = [weight for _, weight in policy.trained() if weight.grad is not None]
    gradients = [weight.grad for weight in touched]
    policy.zero_grad()
    for row, side in enumerate([*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]):
        count, inputs = len(side.token_ids), policy.encode([examples(1)["q0"]])
        alone = policy.token_logprobs(inputs, torch.tensor([side.token_ids]), [count])
        torch.testing.assert_close(own[row, :count], alone[0])
        (alone[0] * weights[row, :count]).sum().backward()
    for found, weight in zip(gradients, touched, strict=True):
        torch.testing.assert_close(found, weight.grad, rtol=1e-4, atol=1e-6)


def test_batch_of_no_pairs_counts_for_nothing() -> None:
    policy = tiny_policy()
    batch = pair_buffer(policy, make_pairs(policy)).batch([])
    assert batch["lengths"] == [0, 0]
    assert not batch["response_mask"].any()
    assert not batch["weights"].any()
    assert not batch["real"].any()


def test_kto_needs_pairs_of_two_questions(tmp_path: Path) -> None:
    policy = tiny_policy()
    with pytest.raises(AresError, match="all pairs are of one"):
        prefer(policy, pair_buffer(policy, make_pairs(policy, 1, each=2)), tmp_path, by_loss("kto"))


def test_buffer_refuses_pairs_that_cannot_be_trained_on() -> None:
    policy = tiny_policy()
    [pair, *_] = make_pairs(policy)
    wrong = {
        "not in the data": replace(pair, pid="elsewhere"),
        "the same one twice": replace(pair, rejected=pair.chosen),
        "an empty response": replace(pair, rejected=replace(pair.rejected, token_ids=())),
        "one reference log-probability": replace(pair, chosen=replace(pair.chosen, ref_logprobs=None)),
    }
    for message, row in wrong.items():
        with pytest.raises(AresError, match=message):
            pair_buffer(policy, [row])
    with pytest.raises(AresError, match="held-out"):
        pair_buffer(policy, [pair], heldout=[pair.pid])
