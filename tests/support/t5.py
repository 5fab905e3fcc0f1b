"""A small policy, a batch for it, and the recorded model."""

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ares.models.inputs import Sampling
from ares.models.t5 import T5ForMultimodalGeneration
from ares.models.t5.loading import build_model
from ares.models.t5.policy import T5Policy
from ares.models.t5.value import T5Value


class FakeTokenizer(types.SimpleNamespace):
    """As much of a tokenizer as a model needs to be built and saved."""

    pad_token_id = 0
    eos_token_id = 1

    def __len__(self) -> int:
        return 40

    def save_pretrained(self, folder: Path) -> None:
        Path(folder, "tokenizer.json").write_text("{}")


SIZES = {"d_model": 32, "d_ff": 64, "d_kv": 8, "layers": 2, "heads": 4, "patch_dim": 12, "patch_num": 5}


@pytest.fixture
def tokenizer() -> FakeTokenizer:
    return FakeTokenizer()


@pytest.fixture
def policy(tokenizer: FakeTokenizer) -> T5ForMultimodalGeneration:
    return build_model(tokenizer, **SIZES, dropout=0.1, seed=3)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Three prompts of 9, 6 and 3 tokens; the last has no image."""
    torch.manual_seed(0)
    lengths = torch.tensor([9, 6, 3])
    mask = (torch.arange(9) < lengths[:, None]).long()
    images = torch.randn(3, 5, 12)
    images[2] = 0
    return {
        "input_ids": torch.randint(2, 40, (3, 9)) * mask,
        "attention_mask": mask,
        "image_features": images,
    }


@pytest.fixture(scope="session")
def recorded(shared: Path) -> dict[str, torch.Tensor]:
    """Inputs and outputs of the original model."""
    with np.load(shared / "golden" / "model_io_untied.npz") as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file}


@pytest.fixture(scope="session")
def original(shared: Path) -> T5ForMultimodalGeneration:
    return T5ForMultimodalGeneration.from_pretrained(shared / "golden" / "model_untied")


# --------------------------------------------------------------------------------------------------
# A bare network, through its policy
# --------------------------------------------------------------------------------------------------


def lengths_of(mask: Tensor) -> list[int]:
    """The tokens of each row of a mask (B, T)."""
    return [int(count) for count in mask.sum(1)]


class Given:
    """Prompts that are already tensors."""

    def __init__(self, input_ids: Tensor, attention_mask: Tensor, image_features: Tensor | None) -> None:
        self.tensors = (input_ids, attention_mask, image_features)
        self.lengths = attention_mask.sum(1).tolist()
        self.beginnings: list[tuple[int, ...]] = [()] * len(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def select(self, rows: list[int]) -> "Given":
        ids, mask, images = self.tensors
        return Given(ids[rows], mask[rows], None if images is None else images[rows])

    def distinct(self) -> tuple["Given", list[int]]:
        return self, list(range(len(self.tensors[0])))

    def to(self, device: torch.device | str) -> "Given":
        return self


def policy_around(network: Any, *, features: bool = False) -> T5Policy:
    """A policy around a bare network, with a tokenizer that knows no text; `features`: whether it sees images."""
    images: Any = types.SimpleNamespace(shape=(1, 1)) if features else None
    return T5Policy(network, FakeTokenizer(), features=images)  # type: ignore[arg-type]


def generate_greedy(network: Any, *prompts: Any, max_new_tokens: int, **named: Any) -> list[list[int]]:
    """`T5Policy.greedy` for prompts as tensors."""
    return policy_around(network).greedy(Given(*prompts, **named), max_new_tokens=max_new_tokens)


def sample(
    network: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_features: Tensor | None,
    *,
    k: int,
    max_new_tokens: int,
    seed: int = 0,
    slots: int = 64,
    **filters: float,
) -> list[list[int]]:
    """The ids of `T5Policy.sample` for prompts as tensors."""
    written = policy_around(network).sample(
        Given(input_ids, attention_mask, image_features),
        k=k,
        max_new_tokens=max_new_tokens,
        seed=seed,
        slots=slots,
        sampling=Sampling(**filters),  # type: ignore[arg-type]
    )
    return [sample.ids for sample in written]


def token_logprobs(
    network: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_features: Tensor | None,
    response_ids: Tensor,
    lengths: Sequence[int],
) -> Tensor:
    """`T5Policy.token_logprobs` for prompts as tensors."""
    prompts = Given(input_ids, attention_mask, image_features)
    return policy_around(network).token_logprobs(prompts, response_ids, lengths)


def states_logprobs(
    network: Any, states: Tensor, response_ids: Tensor, lengths: Sequence[int], *, entropy: bool = False
) -> tuple[Tensor, Tensor]:
    """`T5Policy.logprobs` of a bare network."""
    return policy_around(network).logprobs(states, response_ids, lengths, entropy=entropy)


def values(
    network: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_features: Tensor | None,
    response_ids: Tensor,
    lengths: Sequence[int],
) -> Tensor:
    """`T5Value.values` for prompts as tensors."""
    prompts = Given(input_ids, attention_mask, image_features)
    return T5Value(network, features=image_features is not None).values(prompts, response_ids, lengths)
