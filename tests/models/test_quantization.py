"""A base of four bits per weight: which layers it concerns, and that an adapter trains on it."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ares.models.vlm.families import LANGUAGE_MODELS
from ares.models.vlm.policy import VlmPolicy
from ares.types import AresError, Example
from tests.support.vlm import save_tiny_vlm
from tests.support.vlm_policies import IDS, LENGTHS, descend, response_logprobs, started, two_examples

EXACT = {"atol": 0.0, "rtol": 0.0}


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vlm(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    return two_examples(tmp_path_factory.mktemp("pictures"))


def quantized(base: Path) -> VlmPolicy:
    pytest.importorskip("bitsandbytes", reason="needs the extra `quantization`")
    return started(base, quantization="nf4")


def test_only_layers_of_the_language_model_are_quantized(base: Path) -> None:
    network = quantized(base).model
    linear = {name: type(m).__name__ for name, m in network.named_modules() if isinstance(m, nn.Linear)}
    layers = {name: kind for name, kind in linear.items() if "lora_" not in name}
    language = {name for name in layers if any(part in name.split(".") for part in LANGUAGE_MODELS)}
    assert {layers[name] for name in language} == {"Linear4bit"}
    assert len(language) == 7 * 2  # linear layers in a block, blocks
    assert {layers[name] for name in layers.keys() - language} == {"Linear"}
    assert "lm_head" in layers.keys() - language
    assert any("vision_tower" in name or "visual" in name for name in layers)
    assert any("projector" in name or "merger" in name for name in layers)
    assert {kind for name, kind in linear.items() if "lora_" in name} == {"Linear"}


def test_training_changes_the_adapter_alone(base: Path, examples: list[Example]) -> None:
    policy = quantized(base)
    adapter = {name for name, _ in policy.trained()}
    before = {name: weight.detach().clone() for name, weight in policy.model.named_parameters()}
    descend(policy, examples)
    changed = {name for name, w in policy.model.named_parameters() if not torch.equal(w, before[name])}
    assert changed == adapter
    assert all("lora_" in name for name in adapter)


@torch.no_grad()
def test_policy_and_reference_read_the_quantized_base(
    base: Path, examples: list[Example], tmp_path: Path
) -> None:
    policy = quantized(base)
    policy.save(tmp_path / "before")
    found = response_logprobs(policy, examples)
    assert not torch.allclose(found, response_logprobs(started(base), examples), atol=1e-4)
    with torch.enable_grad():
        descend(policy, examples)
    reference = policy.sibling(tmp_path / "before")
    assert reference.model is policy.model
    torch.testing.assert_close(response_logprobs(reference, examples), found, **EXACT)
    assert not torch.allclose(response_logprobs(policy, examples), found, atol=1e-4)


@torch.no_grad()
def test_saved_policy_and_value_model_are_the_same_when_loaded(
    base: Path, examples: list[Example], tmp_path: Path
) -> None:
    policy = quantized(base)
    with torch.enable_grad():
        descend(policy, examples)
    value = policy.new_value(seed=0, shared=False)
    nn.init.normal_(value.head[-1].weight)  # type: ignore[index, operator, arg-type]
    policy.save(tmp_path / "policy")
    value.save(tmp_path / "value")
    loaded = VlmPolicy.load(tmp_path / "policy", dropout=0.0)
    again = loaded.load_value(tmp_path / "value", shared=False)
    torch.testing.assert_close(
        response_logprobs(loaded, examples), response_logprobs(policy, examples), **EXACT
    )
    values = [
        model.values(own.encode(examples), IDS, LENGTHS) for model, own in ((value, policy), (again, loaded))
    ]
    assert values[0].abs().max() > 0
    torch.testing.assert_close(*values, **EXACT)


@torch.no_grad()
def test_copies_and_moves_keep_the_quantized_weights(base: Path, examples: list[Example]) -> None:
    policy = quantized(base)
    expected = response_logprobs(policy, examples)
    torch.testing.assert_close(response_logprobs(copy.deepcopy(policy), examples), expected, **EXACT)
    policy.to("cpu")
    policy.model.requires_grad_(False)
    torch.testing.assert_close(response_logprobs(policy, examples), expected, **EXACT)


def test_missing_package_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(AresError, match=r"needs bitsandbytes: pip install 'ares\[quantization\]'"):
        started(base, quantization="nf4")
