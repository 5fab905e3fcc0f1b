"""Fits that are killed inside an epoch and go on where their last checkpoint was taken."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from tests.support import supervised
from tests.support.interrupting import Batches, KillAt, Killed
from tests.support.ppo import RL, make_buffer, new_value, same, train, weights

pytestmark = pytest.mark.filterwarnings("ignore")
# Four optimizer steps of two micro-batches and a short one per epoch; one validation in two epochs.
FIT = {"epochs": 4, "micro_batch_size": 2, "train": supervised.rows(18), "val": 4, "eval_every_epochs": 2}


@pytest.fixture(params=[supervised.t5, supervised.vlm])
def model(request: pytest.FixtureRequest):
    return request.param


def fitted(build, folder: Path, *callbacks: pl.Callback, **changes) -> tuple[dict, dict]:
    """The weights that a fit with dropout leaves, and its metrics."""
    network = build(0.1)
    metrics = supervised.fit(network, folder, callbacks=list(callbacks), **{**FIT, **changes})
    return weights(network), metrics


def test_fine_tuning_resumes_inside_epochs(tmp_path: Path, model, capsys) -> None:
    expected, metrics = fitted(model, tmp_path / "complete")
    places = [(0, 0), (0, 3), (1, 7), (2, 0), (2, 5), (3, 8)]
    resumed = []
    for epoch, batch in places:
        batches = Batches()
        with pytest.raises(Killed):
            fitted(model, tmp_path / "killed", KillAt(epoch, batch), batches, minutes=0)
        resumed.append(batches.seen[0])
    ends = fitted(model, tmp_path / "killed", minutes=0)
    assert same(ends[0], expected)
    assert ends[1] == metrics
    # The micro-batches of the optimizer step that was interrupted, and nothing before it, are trained on again.
    assert resumed == [(0, 0), (0, 0), (0, 2), (1, 6), (2, 0), (2, 4)]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resumed")]
    assert lines == [
        "resumed at epoch 1, step 1",
        "resumed at epoch 2, step 8",
        "resumed at epoch 3, step 10",
        "resumed at epoch 3, step 12",
        "resumed at epoch 4, step 19",
    ]


def test_fit_that_was_killed_after_its_end_returns_the_same(tmp_path: Path, model) -> None:
    expected = fitted(model, tmp_path, epochs=2)
    batches = Batches()
    again = fitted(model, tmp_path, batches, epochs=2)
    assert batches.seen == []
    assert same(again[0], expected[0])
    assert again[1] == expected[1]


def test_moved_folder_keeps_the_best_weights(tmp_path: Path, model) -> None:
    scores = iter([0.9, 0.1, 0.1])
    expected, metrics = fitted(model, tmp_path / "complete", epochs=6, score=lambda *_: next(scores))
    assert metrics["val/equal"] == pytest.approx(0.9)
    scores = iter([0.9, 0.1, 0.1])
    with pytest.raises(Killed):
        fitted(model, tmp_path / "a", KillAt(4, 1), epochs=6, minutes=0, score=lambda *_: next(scores))
    (tmp_path / "a").rename(tmp_path / "b")
    resumed, _ = fitted(model, tmp_path / "b", epochs=6, score=lambda *_: next(scores))
    assert same(resumed, expected)


def test_fit_starts_again_without_a_readable_checkpoint(tmp_path: Path, capsys) -> None:
    expected, _ = fitted(supervised.t5, tmp_path / "complete")
    with pytest.raises(Killed):
        fitted(supervised.t5, tmp_path / "killed", KillAt(2, 5), minutes=0)
    for path in (tmp_path / "killed/checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    ends, _ = fitted(supervised.t5, tmp_path / "killed")
    assert same(ends, expected)
    assert "starts from its beginning" in capsys.readouterr().err


class Disturb(pl.Callback):
    """Draws random numbers where validation and checkpoints do."""

    def on_validation_end(self, trainer, module) -> None:
        torch.manual_seed(99), np.random.seed(99), random.seed(99)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        torch.rand(3), np.random.rand(3), random.random()


def test_other_draws_do_not_change_a_fit(tmp_path: Path, model) -> None:
    drawn: list[list] = []
    ends = []

    class Draws(pl.Callback):
        def on_before_zero_grad(self, trainer, module, optimizer) -> None:
            drawn[-1].append((torch.rand(1).item(), np.random.rand(), random.random()))

    for number, callbacks in enumerate([(), (Disturb(),)]):
        drawn.append([])
        own = tmp_path / str(number)
        ends.append(fitted(model, own, *callbacks, Draws(), epochs=2, eval_every_epochs=1)[0])
    assert same(*ends)
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("changes", [{}, {"recompute": False}, {"objective": "grpo"}, {"lora.r": 2}])
def test_rl_resumes_inside_epochs(tmp_path: Path, tiny_policy, changes: dict) -> None:
    lora = replace(RL.lora, r=changes.pop("lora.r", 0))
    rl = replace(RL, ppo_epochs=3, micro_batch_size=4, decay="linear", lora=lora, **changes)

    def run(folder: Path, *callbacks: pl.Callback, minutes: float = 0):
        policy = tiny_policy()
        value = new_value(policy)
        buffer = make_buffer(policy, questions=6, holdout=0.2)
        metrics = train(policy, buffer, folder, rl, value=value, callbacks=callbacks, minutes=minutes)
        return weights(policy), weights(value), metrics

    expected = run(tmp_path / "complete", minutes=10)
    resumed = []
    warmup = 0 if rl.objective == "grpo" else 1
    for epoch, batch in [(0, 2), (warmup, 3), (warmup + 1, 0), (warmup + 2, 2)]:
        batches = Batches()
        with pytest.raises(Killed):
            run(tmp_path / "killed", KillAt(epoch, batch), batches)
        resumed.append(batches.seen[0])
    ends = run(tmp_path / "killed")
    assert same(ends[0], expected[0])
    assert same(ends[1], expected[1])
    assert ends[2] == expected[2]
    assert resumed[1:] == [(0, 2), (warmup, 2), (warmup + 1, 0)]
