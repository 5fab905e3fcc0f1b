"""Preference pairs of a tiny policy's own texts, and a fit on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from ares.config.preference import DdpoConfig, PreferConfig
from ares.datamodules.pairs import PairBuffer
from ares.models.inputs import Sampling
from ares.models.policy import Policy
from ares.modules.preference import run_preference
from ares.types import Example, Pair, Side
from tests.support.number_vlm import picture
from tests.support.policies import EOS
from tests.support.ppo import GOOD, QUIET

PREFER = PreferConfig(
    lr=1e-2,
    beta=0.5,
    epochs=3,
    global_batch_size=4,
    micro_batch_size=2,
    warmup_fraction=0.0,
    decay="constant",
)


def examples(questions: int) -> dict[str, Example]:
    """Prompts of numbers by pid; every other question has an image."""
    found = {}
    for i in range(questions):
        prompt = " ".join(str(2 + (i + j) % 13) for j in range(3 + i % 3))
        images = (picture(i),) if i % 2 == 0 else ()
        found[f"q{i}"] = Example(prompt, "", f"q{i}", images, prompt)
    return found


@torch.no_grad()
def make_pairs(
    policy: Policy, questions: int = 6, *, each: int = 1, reference: Policy | None = None
) -> list[Pair]:
    """Up to `each` pairs per question of sampled texts, of which the one with more GOOD tokens is chosen."""
    prompts, rows = examples(questions), []
    inputs = policy.encode(list(prompts.values()))
    samples = policy.sample(inputs, k=4 * each, max_new_tokens=6, seed=0, sampling=Sampling())
    for place, (pid, example) in enumerate(prompts.items()):
        own = samples[4 * each * place : 4 * each * (place + 1)]
        texts = sorted({tuple(sample.ids): None for sample in own if tuple(sample.ids) != (EOS,)}, key=_worth)
        for number in range(min(each, len(texts) // 2)):
            sides = [_side(reference or policy, example, texts[rank]) for rank in (-1 - number, number)]
            rows.append(Pair(f"{pid}/{number}", pid, "rollouts", *sides))
    return rows


def _worth(ids: Sequence[int]) -> tuple[float, Sequence[int]]:
    return sum(token in GOOD for token in ids) / len(ids), ids


def _side(policy: Policy, example: Example, ids: Sequence[int]) -> Side:
    known = policy.token_logprobs(policy.encode([example]), torch.tensor([ids]), [len(ids)])[0].tolist()
    return Side("", tuple(ids), (), (), None, tuple(known))


def pair_buffer(
    policy: Policy, pairs: Sequence[Pair], *, heldout: Sequence[str] = (), ddpo: DdpoConfig | None = None
) -> PairBuffer:
    """A buffer of pairs that `make_pairs` made."""
    return PairBuffer(policy, examples(100), pairs, heldout=heldout, weighting=ddpo)


def prefer(
    policy: Policy,
    buffer: PairBuffer,
    folder: Path,
    settings: PreferConfig = PREFER,
    *,
    callbacks: Sequence[pl.Callback] = (),
    minutes: float = 10,
    **changes: Any,
) -> dict[str, float]:
    """Runs preference optimization in `folder` on the CPU; returns its metrics.

    `minutes` between checkpoints; `changes` go to the Trainer.
    """
    return run_preference(
        policy,
        buffer,
        settings,
        seed=0,
        checkpoints=folder,
        checkpoint_minutes=minutes,
        trainer_arguments={**QUIET, "default_root_dir": folder, "callbacks": list(callbacks), **changes},
    )


def by_loss(loss: str, **changes: Any) -> PreferConfig:
    """The settings of a loss."""
    return replace(PREFER, loss=loss, **changes)
