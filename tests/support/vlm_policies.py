"""Policies on tiny vision-language models, two prompts for them, and a step of training."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ares.models.vlm.policy import VlmPolicy
from ares.rl.masked import pad_right
from ares.types import Example
from tests.support.vlm import tiny_settings

RESPONSES = [[40, 60, 2], [70, 41, 42, 43, 2]]
IDS, LENGTHS = pad_right(RESPONSES, 0), list(map(len, RESPONSES))


def two_examples(folder: Path) -> list[Example]:
    """A question with an image, which is written to `folder`, and one without."""
    path = folder / "red.png"
    Image.new("RGB", (60, 44), "red").save(path)
    return [Example("", "", "a", (path,), "Which one?"), Example("", "", "b", (), "And without an image?")]


def started(base: Path, **changes: Any) -> VlmPolicy:
    """A policy on the model in a folder, with a fresh adapter unless `changes` of the settings say otherwise."""
    settings = tiny_settings(base, **changes)
    return VlmPolicy.start(settings, [], tokenizer={"path": None, "vocab_size": 0}, seed=0)


def response_logprobs(policy: VlmPolicy, examples: list[Example]) -> Tensor:
    """Log-probabilities (2, 5) of two responses to two examples."""
    return policy.token_logprobs(policy.encode(examples), IDS, LENGTHS)


def descend(policy: VlmPolicy, examples: list[Example], *, lr: float = 1.0) -> None:
    """Two steps of gradient descent on the trained weights; the first moves only the half of an adapter that is zero."""
    optimizer = torch.optim.SGD([weight for _, weight in policy.trained()], lr=lr)
    for _ in range(2):
        optimizer.zero_grad()
        (-response_logprobs(policy, examples).mean()).backward()
        optimizer.step()
