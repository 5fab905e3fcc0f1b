"""Which layers the adapter adapts, and that all of it learns."""

import json

import pytest
import torch
from ares.modules.adapter import adapt, merge
from ares.modules.lora import add_adapter, target_modules

from ares.models.t5 import FusionT5Config, T5ForMultimodalGeneration


def small(**changes) -> T5ForMultimodalGeneration:
    torch.manual_seed(0)
    config = FusionT5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, patch_num=3, patch_dim=6, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", decoder_start_token_id=0, **changes,
    )  # fmt: skip
    return T5ForMultimodalGeneration(config)


def test_default_targets_leave_out_heads_and_what_an_adapter_cannot_reach() -> None:
    names = target_modules(small(), "all", features=True)
    assert "encoder.image_dense" in names
    assert "decoder.block.0.layer.1.EncDecAttention.q" in names
    assert not [name for name in names if "lm_head" in name or "mha_layer" in name]
    assert not [
        n for n in target_modules(small(), "all", features=False) if "image_dense" in n or "gate_dense" in n
    ]


def test_every_adapter_tensor_gets_a_gradient_within_two_steps() -> None:
    model = add_adapter(small(), r=4, alpha=8, dropout=0.0, targets="all", features=True)
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
def test_a_merged_adapter_of_the_papers_targets_says_what_it_said_before(tied: bool) -> None:
    model = small(tie_word_embeddings=tied)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    adapter = adapt(model, r=4, alpha=8, targets="paper", features=True)
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
        merge(adapter, {})
        after = model(**batch).logits
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_paper_targets_count_the_papers_parameters(shared) -> None:
    golden = json.loads((shared / "golden" / "lora.json").read_text())
    base = golden["models"]["flan-t5-base-multimodal"]
    with torch.device("meta"):
        config = FusionT5Config(
            vocab_size=32128, d_model=768, d_kv=64, d_ff=2048, num_layers=12, num_heads=12, feed_forward_proj="gated-gelu",
            patch_num=145, patch_dim=1024, scale_decoder_outputs=False,
        )  # fmt: skip
        model = T5ForMultimodalGeneration(config)
        model.lm_head = torch.nn.Linear(768, 32128, bias=False)
        suffixes = {name.split(".")[-1] for name in target_modules(model, "paper", features=True)}
        assert suffixes == set(base["target_modules"])
        assert sum(p.numel() for p in model.parameters()) == 251_907_840
        adapted = add_adapter(model, r=64, alpha=128, dropout=0.05, targets="paper", features=True)
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == 29_597_696
