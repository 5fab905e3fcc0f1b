"""Supervised fine-tuning of policies of a few thousand weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from ares.config.schema import FitConfig
from ares.datamodules.supervised import SupervisedData, encode
from ares.models.policy import Policy
from ares.modules.supervised import Score, fit_supervised
from ares.types import Example
from tests.support.number_vlm import number_vlm, picture
from tests.support.policies import number_policy


def t5(dropout: float = 0.0) -> Policy:
    """A small T5."""
    return number_policy(
        dropout=dropout, vocabulary=12, width=32, feed_forward_proj="relu", initializer_factor=1.0
    )


def vlm(dropout: float = 0.0) -> Policy:
    """An adapter on a small LLaVA."""
    return number_vlm(dropout=dropout, vocabulary=12, width=32, r=8)


def rows(count: int) -> list[Example]:
    """Prompts of up to 4 numbers, half of them with an image; the target is the first two."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for number in range(count):
        ids = torch.randint(3, 12, (1 + number % 4,), generator=generator).tolist()
        prompt, target = " ".join(map(str, ids)), " ".join(map(str, ids[:2]))
        images = (picture(number),) if number % 2 == 0 else ()
        found.append(Example(prompt, target, str(number), images, prompt))
    return found


def equal_share(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """The share of texts that are right."""
    return sum(r == h for r, h in zip(references, hypotheses, strict=True)) / len(references)


def fit(
    network: Policy,
    folder: Path,
    epochs: int = 1,
    *,
    callbacks: Sequence[pl.Callback] = (),
    train: list[Example] | None = None,
    val: int = 8,
    score: Score = equal_share,
    precision: str = "32-true",
    minutes: float = 10,
    **changes: Any,
) -> dict[str, float]:
    """Trains a policy on `train` with checkpoints in `folder`, every so many `minutes`; returns the metrics."""
    settings = {"lr": 1e-2, "global_batch_size": 4, "micro_batch_size": 4, "max_output_tokens": 4, **changes}
    micro = settings["micro_batch_size"]
    data = SupervisedData(
        pad_id=0, micro=micro, accumulate=settings["global_batch_size"] // micro, eval_batch=4, seed=3
    )
    data.train = encode(network, train or rows(30), max_output_tokens=8)
    data.val = encode(network, rows(val), max_output_tokens=8)
    return fit_supervised(
        network,
        data,
        FitConfig(epochs=epochs, **settings),
        score=score,
        metric="val/equal",
        block="sft",
        devices=1,
        checkpoints=folder / "checkpoints",
        checkpoint_minutes=minutes,
        trainer_arguments={
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "callbacks": list(callbacks),
            "precision": precision,
        },
    )
