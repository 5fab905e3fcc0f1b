"""Which layers the adapter adapts, and that all of it learns."""

import json

import pytest
import torch

from ares.models.adapters import add_adapter, merged_adapters
from ares.models.t5 import FusionT5Config, T5ForMultimodalGeneration
from ares.models.t5.lora import lora_targets
from tests.support.t5 import policy_around


def small(**changes) -> T5ForMultimodalGeneration:
    torch.manual_seed(0)
    config = FusionT5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, patch_num=3, patch_dim=6, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", decoder_start_token_id=0, **changes,
    )  # fmt: skip
    return T5ForMultimodalGeneration(config)


def test_default_targets_leave_out_heads_and_what_an_adapter_cannot_reach() -> None:
    names = lora_targets(small(), "all", features=True)
    assert "encoder.image_dense" in names
    assert "decoder.block.0.layer.1.EncDecAttention.q" in names
    assert not [name for name in names if "lm_head" in name or "mha_layer" in name]
    assert not [
        n for n in lora_targets(small(), "all", features=False) if "image_dense" in n or "gate_dense" in n
    ]


def test_every_adapter_tensor_gets_a_gradient_within_two_steps() -> None:
    policy = policy_around(small(), features=True)
    add_adapter(policy, r=4, alpha=8, dropout=0.0, targets="all")
    model = policy.model
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    optimizer = torch.optim.AdamW(trainable.values(), lr=1e-2)
    moved = set()
    for _ in range(2):
        loss = model(
            input_ids=torch.randint(2, 40, (4, 7)),
            attention_mask=torch.ones(4, 7, dtype=torch.long),
            image_features=torch.randn(4, 3, 6),
            labels=torch.randint(2, 40, (4, 5)),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        moved |= {name for name, p in trainable.items() if p.grad is not None and p.grad.abs().sum() > 0}
        optimizer.step()
    assert moved == set(trainable)


@pytest.mark.parametrize("tied", [True, False])
def test_merging_adapter_with_paper_targets_keeps_logits(tied: bool) -> None:
    model = small(tie_word_embeddings=tied)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    policy = policy_around(model, features=True)
    with merged_adapters([policy], r=4, alpha=8, targets="paper", seed=0):
        assert any("lm_head.lora_" in name for name, _ in model.named_parameters()) != tied
        torch.manual_seed(1)
        model.double()
        for name, parameter in model.named_parameters():
            # What adapts mha_layer has no effect, so that training leaves it at 0.
            if "lora_" in name and "mha_layer" not in name:
                torch.nn.init.normal_(parameter, std=0.2)
        batch = {"input_ids": torch.randint(2, 40, (3, 7)), "image_features": torch.randn(3, 3, 6).double()}
        batch["labels"] = torch.randint(2, 40, (3, 5))
        with torch.no_grad():
            before = model.eval()(**batch).logits
    with torch.no_grad():
        after = model(**batch).logits
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_paper_targets_give_the_papers_parameter_count(shared) -> None:
    golden = json.loads((shared / "golden" / "lora.json").read_text())
    base = golden["models"]["flan-t5-base-multimodal"]
    with torch.device("meta"):
        config = FusionT5Config(
            vocab_size=32128, d_model=768, d_kv=64, d_ff=2048, num_layers=12, num_heads=12, feed_forward_proj="gated-gelu",
            patch_num=145, patch_dim=1024, scale_decoder_outputs=False,
        )  # fmt: skip
        model = T5ForMultimodalGeneration(config)
        model.lm_head = torch.nn.Linear(768, 32128, bias=False)
        suffixes = {name.split(".")[-1] for name in lora_targets(model, "paper", features=True)}
        assert suffixes == set(base["target_modules"])
        assert sum(p.numel() for p in model.parameters()) == 251_907_840
        adapted = policy_around(model, features=True)
        add_adapter(adapted, r=64, alpha=128, dropout=0.05, targets="paper")
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == 29_597_696
