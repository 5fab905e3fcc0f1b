"""Torn and foreign weight files are refused in one sentence, whichever reader opens them."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from ares.models.adapters import add_adapter, load_adapter, save_adapter
from ares.models.t5.loading import load_model, load_value_model, save_model, value_from_model
from ares.types import AresError
from tests.support.t5 import policy_around


def halve(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def forget(file):
    file.write_bytes(b"")


def swap(file):
    """Something else that is readable."""
    torch.save([torch.zeros(1)], file)


def reshape(file):
    """Every weight of another size."""
    safe = file.suffix == ".safetensors"
    tensors = load_file(file) if safe else torch.load(file, weights_only=True)
    wrong = {name: torch.zeros([size + 1 for size in tensor.shape]) for name, tensor in tensors.items()}
    save_file(wrong, file, metadata={"format": "pt"}) if safe else torch.save(wrong, file)


DAMAGES = pytest.mark.parametrize("damage", [halve, forget, swap, reshape])


@DAMAGES
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_policy_is_refused(policy, tokenizer, tmp_path, name, damage):
    save_model(policy, tokenizer, tmp_path)
    if name.endswith("bin"):
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / name)
        (tmp_path / "model.safetensors").unlink()
    damage(tmp_path / name)
    with pytest.raises(AresError, match=r"The model in .* cannot be loaded \(.*; give a folder") as error:
        load_model(tmp_path, dropout=0.0, features=True)
    assert "\n" not in str(error.value)
    assert ("of other sizes than its config.json says" in str(error.value)) == (damage is reshape)


@pytest.mark.parametrize("build", [lambda policy: policy, value_from_model], ids=["policy", "value"])
def test_weight_that_is_not_a_number_is_refused(policy, tokenizer, tmp_path, build):
    model = build(policy)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    name = sorted(state)[-1]
    state[name].view(-1)[-1] = float("nan")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    load = load_model if model is policy else load_value_model
    with pytest.raises(AresError, match=f"cannot be used: its weight {name} holds NaN"):
        load(tmp_path, dropout=0.0, features=True)
    if model is policy:
        torch.nn.init.constant_(model.shared.weight, float("inf"))
        with pytest.raises(AresError, match=r"The policy cannot be used: its weight shared\.weight"):
            save_model(model, tokenizer, tmp_path)


@DAMAGES
def test_damaged_original_value_model_is_refused(policy, tmp_path, damage):
    value = value_from_model(policy)
    value.config.save_pretrained(tmp_path)
    file = tmp_path / "value_function.pth"
    torch.save(value.state_dict(), file)
    assert load_value_model(tmp_path, dropout=0.0, features=True).config.patch_dim == 12
    damage(file)
    with pytest.raises(AresError, match=r"value_function\.pth cannot be loaded \(") as error:
        load_value_model(tmp_path, dropout=0.0, features=True)
    assert "\n" not in str(error.value)


def test_value_model_without_fusion_is_refused(policy, tmp_path):
    value = value_from_model(policy)
    value.config.save_pretrained(tmp_path)
    state = {name: t for name, t in value.state_dict().items() if "image_dense" not in name}
    torch.save(state, tmp_path / "value_function.pth")
    with pytest.raises(AresError, match=r"lacks encoder\.image_dense\.weight"):
        load_value_model(tmp_path, dropout=0.0, features=True)


@pytest.fixture
def adapter(policy, tmp_path):
    adapted = policy_around(copy.deepcopy(policy), features=True)
    add_adapter(adapted, r=2, alpha=4, dropout=0.0, targets="all")
    save_adapter(adapted, tmp_path)
    return tmp_path


@DAMAGES
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_damaged_adapter_is_refused(policy, adapter, tokenizer, name, damage):
    if name.endswith("bin"):
        torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / name)
        (adapter / "adapter_model.safetensors").unlink()
    damage(adapter / name)
    with pytest.raises(AresError, match=r"cannot be loaded \(|does not fit the policy \(") as error:
        load_adapter(policy_around(policy), adapter)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ['{"peft_type": "LORA"', json.dumps({"peft_type": "LORA", "r": "two"}), "[]"]
)
def test_damaged_adapter_settings_are_refused(policy, adapter, text):
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(AresError, match=r"The adapter in .* (cannot be loaded|does not fit the policy) \("):
        load_adapter(policy_around(policy), adapter)
