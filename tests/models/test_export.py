"""Exported vision-language policies: plain models with the probabilities of the trained ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from ares.models.vlm.policy import VlmPolicy
from tests.support.vlm import save_tiny_vlm
from tests.support.vlm_policies import descend, response_logprobs, started, two_examples


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
@pytest.mark.parametrize("r", [4, 0])
@torch.no_grad()
def test_exported_policy_is_a_plain_model_with_the_same_logprobs(family: str, r: int, tmp_path: Path) -> None:
    base, examples = save_tiny_vlm(family, tmp_path / "base"), two_examples(tmp_path)
    policy = started(base, lora={"r": r, "alpha": 8, "targets": None, "vision": True})
    before = response_logprobs(policy, examples)
    with torch.enable_grad():
        descend(policy, examples, lr=0.1)
    expected = response_logprobs(policy, examples)
    assert not torch.allclose(expected, before, atol=1e-2)
    policy.save(tmp_path / "policy")
    assert VlmPolicy.export(tmp_path / "policy", tmp_path / "export") == []

    files = {path.name for path in (tmp_path / "export").iterdir()}
    assert not files & {"adapter_config.json", "policy.json"}
    network: Any = AutoModelForImageTextToText.from_pretrained(tmp_path / "export")
    assert not [name for name, _ in network.named_parameters() if "lora" in name]
    processor = AutoProcessor.from_pretrained(tmp_path / "export")
    assert network.generation_config.eos_token_id == policy.tokenizer.eos_token_id
    text = policy.reader.processor.apply_chat_template(
        policy.reader.messages(examples[0]), add_generation_prompt=True, tokenize=False
    )
    assert text == processor.apply_chat_template(
        policy.reader.messages(examples[0]), add_generation_prompt=True, tokenize=False
    )
    found = response_logprobs(started(tmp_path / "export"), examples)  # its adapter has no effect yet
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_quantized_policy_is_merged_into_the_base_with_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra `quantization`")
    base, examples = save_tiny_vlm("llava", tmp_path / "base"), two_examples(tmp_path)
    policy = started(base, quantization="nf4")
    with torch.enable_grad():
        descend(policy, examples)
    policy.save(tmp_path / "policy")
    [warning] = VlmPolicy.export(tmp_path / "policy", tmp_path / "export")
    assert f"trained on a base in nf4; it is merged into {base} in float32" in warning
    merged = started(tmp_path / "export")
    assert {weight.dtype for weight in merged.model.parameters()} == {torch.float32}
    plain = started(base)
    plain.adapters.load("trained", tmp_path / "policy")
    expected = response_logprobs(plain.view("trained"), examples)
    torch.testing.assert_close(response_logprobs(merged, examples), expected, atol=1e-5, rtol=0)
