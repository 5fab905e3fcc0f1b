"""A small policy, a batch for it, and the recorded model."""

import types
from pathlib import Path

import numpy as np
import pytest
import torch

from ares.models.t5 import T5ForMultimodalGeneration
from ares.models.t5.loading import build_policy


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
    return build_policy(tokenizer, **SIZES, dropout=0.1, seed=3)


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
