"""Reward models of a few thousand weights, and labels for them: a sentence is one number, and true if it is GOOD."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from ares.config.schema import RewardConfig
from ares.datamodules.reward import Labels, RewardData
from ares.models.reward import RewardModel
from ares.modules.reward import RewardModule
from ares.modules.supervised import run_fit
from ares.types import Example
from tests.support.number_vlm import picture
from tests.support.ppo import GOOD, QUIET, tiny_policy

FIT = RewardConfig(epochs=2, lr=1e-2, dropout=0.0, global_batch_size=4, micro_batch_size=4)


def reward_model(kind: str = "t5", *, dropout: float = 0.0) -> RewardModel:
    """A reward model that gives every sentence 0.5: a T5 or, of `kind` "vlm", an adapter on a LLaVA."""
    return RewardModel.on(tiny_policy(dropout=dropout, kind=kind), seed=0)


def question(number: int) -> Example:
    """The prompt of a question; every other one has an image."""
    text = " ".join(str(3 + (number + j) % 12) for j in range(2 + number % 3))
    return Example(text, "", f"q{number}", (picture(number),) if number % 2 == 0 else (), text)


def rationales(number: int, count: int = 3) -> list[list[str]]:
    """Rationales of a question with one to four sentences."""
    generator = torch.Generator().manual_seed(number)
    lengths = torch.randint(1, 5, (count,), generator=generator).tolist()
    return [[str(n) for n in torch.randint(3, 16, (k,), generator=generator).tolist()] for k in lengths]


def scored(numbers: Sequence[int]) -> list[Labels]:
    """Questions with the scores of their sentences."""
    found: list[Labels] = []
    for number in numbers:
        own = rationales(number)
        found.append((f"q{number}", own, [[float(int(word) in GOOD) for word in row] for row in own]))
    return found


def preferred(numbers: Sequence[int]) -> list[Labels]:
    """Pairs of two sentences each, the better ones first."""
    return [(f"q{n}", [[str(3 + n % 5)] * 2, [str(10 + n % 5)] * 2], None) for n in numbers]


def reward_data(
    model: RewardModel,
    labels: Sequence[Labels],
    held_out: Sequence[Labels] = (),
    *,
    fit: RewardConfig = FIT,
    world: int = 1,
) -> RewardData:
    """The labels as a reward model reads them."""
    micro = min(fit.micro_batch_size, fit.global_batch_size // world)
    return RewardData(
        labels,
        held_out,
        encode=lambda pids: model.policy.encode([question(int(pid[1:])) for pid in pids]),
        read=partial(model.read, max_tokens=32),
        pad_id=model.policy.pad_id,
        micro=micro,
        accumulate=fit.global_batch_size // (micro * world),
        eval_batch=4,
        seed=3,
    )


def train_reward(
    model: RewardModel,
    folder: Path,
    labels: Sequence[Labels],
    held_out: Sequence[Labels] = (),
    *,
    fit: RewardConfig = FIT,
    callbacks: Sequence[pl.Callback] = (),
    minutes: float = 10,
    world: int = 1,
    **arguments: Any,
) -> dict[str, float]:
    """Trains a reward model with checkpoints in `folder`, every so many `minutes`; returns the metrics."""
    data = reward_data(model, labels, held_out, fit=fit, world=world)
    build = partial(RewardModule, model, fit, metric="val/log_likelihood")
    trainer = {**QUIET, "callbacks": list(callbacks), "default_root_dir": folder, **arguments}
    return run_fit(build, data, fit, "val/log_likelihood", world, folder / "checkpoints", minutes, trainer)
