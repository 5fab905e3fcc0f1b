"""Adapters in float32 on a base in bfloat16, trained in bf16-mixed with recomputed activations."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ares.config.schema import FitConfig
from ares.datamodules.supervised import SupervisedData, encode
from ares.models.vlm.policy import VlmPolicy
from ares.modules.supervised import fit_supervised
from ares.types import Example
from tests.support.number_vlm import number_vlm, picture
from tests.support.ppo import QUIET, RL, make_buffer, new_value, train

BF16 = {"precision": "bf16-mixed"}


@pytest.fixture
def policy(tmp_path: Path) -> VlmPolicy:
    number_vlm(r=0).save(tmp_path / "base")
    settings = {
        "init": str(tmp_path / "base"),
        "dtype": "bfloat16",
        "quantization": "none",
        "max_pixels": None,
        "prompts": {"system": None, "rationale": "{question}", "answer": "{question} {rationale}"},
        "lora": {"r": 4, "alpha": 8, "targets": None, "vision": False},
    }
    return VlmPolicy.start(settings, [], tokenizer={"path": None}, seed=0, checkpointing=True)


def assert_only_adapters_are_float32(policy: VlmPolicy) -> None:
    adapted = {id(weight) for _, weight in policy.adapters.weights("policy")}
    assert adapted
    for name, weight in policy.model.named_parameters():
        assert weight.dtype == (torch.float32 if "lora_" in name else torch.bfloat16), name


def copies(policy: VlmPolicy) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in policy.model.named_parameters()}


def test_ppo_step_changes_adapters_only(policy: VlmPolicy, tmp_path: Path) -> None:
    value = new_value(policy)
    before = copies(policy)
    # The log-probabilities of the rollouts are those of bfloat16 weights without autocast: ratios are near 1.
    metrics = train(policy, make_buffer(policy), tmp_path, replace(RL, ppo_epochs=1), value=value, **BF16)
    assert all(
        abs(metrics[f"train/{name}"]) < 100 for name in ("loss", "policy_grad_norm", "value_grad_norm")
    )
    assert metrics["train/ratio_mean"] == pytest.approx(1, abs=0.1)
    assert_only_adapters_are_float32(policy)
    changed = {
        name for name, weight in policy.model.named_parameters() if not torch.equal(weight, before[name])
    }
    assert changed
    assert all(".policy." in name or ".value." in name for name in changed)
    assert {".policy." in name for name in changed} == {True, False}


def test_fine_tuning_step_changes_the_adapter_only(policy: VlmPolicy, tmp_path: Path) -> None:
    rows = [Example("5 6", "7 8", "a", (picture(0),), "5 6"), Example("3", "4", "b", (), "3")]
    data = SupervisedData(pad_id=policy.pad_id, micro=2, accumulate=1, eval_batch=2, seed=0)
    data.train = data.val = encode(policy, rows, max_output_tokens=4)
    before = copies(policy)
    metrics = fit_supervised(
        policy,
        data,
        FitConfig(epochs=1, lr=1e-2, global_batch_size=2, micro_batch_size=2, max_output_tokens=4),
        score=lambda references, hypotheses: 0.0,
        metric="val/none",
        block="sft",
        devices=1,
        checkpoints=tmp_path / "checkpoints",
        checkpoint_minutes=10,
        trainer_arguments={**QUIET, **BF16},
    )
    assert 0 < metrics["loss"] < 100
    assert_only_adapters_are_float32(policy)
    changed = {
        name for name, weight in policy.model.named_parameters() if not torch.equal(weight, before[name])
    }
    assert changed == {name for name in before if ".policy." in name}
