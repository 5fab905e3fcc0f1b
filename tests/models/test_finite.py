"""Weights that are NaN or infinite are neither saved nor loaded."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ares.models.finite import check_finite
from ares.models.vlm.policy import VlmPolicy
from ares.types import AresError
from tests.support.number_vlm import number_vlm
from tests.support.policies import number_policy


def test_sum_that_overflows_is_no_fault() -> None:
    check_finite([("a", torch.full((4,), 3e38)), ("b", torch.ones(2, dtype=torch.int64))], "The model")
    check_finite([], "The model")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_first_such_weight_is_reported(value: str) -> None:
    spoiled = torch.zeros(3, 4)
    spoiled[1, 2] = float(value)
    with pytest.raises(AresError, match="The model cannot be used: its weight b holds NaN or infinity"):
        check_finite([("a", torch.ones(2)), ("b", spoiled), ("c", spoiled)], "The model")


def spoil(weight: torch.Tensor) -> None:
    with torch.no_grad():
        weight.view(-1)[0] = float("nan")


@pytest.mark.parametrize("rank", [0, 4])
def test_spoiled_vision_language_policy_is_refused(tmp_path: Path, rank: int) -> None:
    policy = number_vlm(r=rank)
    policy.save(tmp_path / "sound")
    _, weight = next(policy.trained())
    spoil(weight)
    with pytest.raises(AresError, match="holds NaN or infinity"):
        policy.save(tmp_path / "spoiled")
    [file] = (tmp_path / "sound").glob("*model.safetensors")
    tensors = load_file(file)
    spoil(tensors[next(iter(tensors))])
    save_file(tensors, file, metadata={"format": "pt"})
    load = partial(policy.adapters.load, "other") if rank else partial(VlmPolicy.load, dropout=0.0)
    with pytest.raises(AresError, match="holds NaN or infinity"):
        load(tmp_path / "sound")


def test_spoiled_t5_and_value_models_are_not_saved(tmp_path: Path) -> None:
    policy = number_policy()
    for shared in (False, True):
        value = policy.new_value(seed=0, shared=shared)
        spoil(value.head[0].weight)
        with pytest.raises(AresError, match=r"The value model cannot be used: its weight v_head\.0\.weight"):
            value.save(tmp_path / "value")
    policy.adapt(r=2, alpha=4, dropout=0.0, targets="all", seed=0)
    _, weight = next(policy.trained())
    spoil(weight)
    with pytest.raises(AresError, match="The adapter cannot be used"):
        policy.save_adapter(tmp_path / "adapter")
