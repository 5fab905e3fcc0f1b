"""The recorded outputs of the original model, the fusion, the value head and the initialization."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ares.models.t5 import T5ForMultimodalGeneration, T5ForMultimodalValue
from ares.models.t5.loading import load_value_model, value_from_model
from ares.types import AresError


def inputs(recorded):
    return {
        "input_ids": recorded["in/input_ids"],
        "attention_mask": recorded["in/attention_mask"],
        "image_features": recorded["in/image_ids"],
        "decoder_input_ids": recorded["in/decoder_input_ids"],
        "decoder_attention_mask": recorded["in/decoder_attention_mask"],
    }


def far(ours, theirs):
    """The largest difference relative to the largest magnitude (at least 1)."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))


@torch.no_grad()
def test_original_checkpoint_equals_the_recording(original, recorded):
    output = original(**inputs(recorded))
    assert original.encoder.config._attn_implementation != "eager"
    assert far(output.encoder_last_hidden_state, recorded["out/encoder_last_hidden_state"]) <= 1e-5
    assert far(output.logits[:, :, recorded["out/logits_cols"]], recorded["out/logits_at_cols"]) <= 1e-5
    assert far(output.logits[0, :12], recorded["out/logits_full_row0"]) <= 1e-5
    assert torch.equal(output.logits.argmax(-1), recorded["out/logits_argmax"])
    assert far(output.logits.logsumexp(-1), recorded["out/logits_logsumexp"]) <= 1e-5


@torch.no_grad()
def test_eager_attention_in_float64_equals_the_recording(shared, recorded):
    """In float64 only the rounding of the recording itself is left, whichever kernels the processor runs."""
    golden = shared / "golden" / "model_untied"
    model = T5ForMultimodalGeneration.from_pretrained(golden, attn_implementation="eager").double()
    assert model.encoder.config._attn_implementation == "eager"
    output = model(**inputs(recorded))
    at_columns = output.logits[:, :, recorded["out/logits_cols"]]
    for ours, name in (
        (output.encoder_last_hidden_state, "encoder_last_hidden_state"),
        (at_columns, "logits_at_cols"),
        (output.logits[0, :12], "logits_full_row0"),
    ):
        assert far(ours, recorded[f"out/{name}"]) <= 2e-6, name


@torch.no_grad()
def test_without_features_the_encoder_is_plain_t5(original, recorded):
    encoded = original.encoder(recorded["in/input_ids"], recorded["in/attention_mask"]).last_hidden_state
    assert far(encoded, recorded["out/encoder_text_hidden_before_fusion"]) <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("labels", ["padded_with_0", "padded_with_-100"])
def test_loss_ignores_minus_100_only(original, recorded, labels):
    rows = {**inputs(recorded), "labels": recorded[f"in/labels_{labels}"]}
    # The original shifts the labels themselves and masks nothing in the decoder.
    del rows["decoder_input_ids"], rows["decoder_attention_mask"]
    rows["decoder_input_ids"] = nn.functional.pad(recorded["in/labels_padded_with_0"], (1, 0))[:, :-1]
    assert float(original(**rows).loss) == pytest.approx(
        float(recorded[f"out/loss_labels_{labels}"]), abs=1e-5
    )


@torch.no_grad()
def test_transformers_generate_equals_the_recording(original, recorded):
    rows = {name: recorded[f"in/{name}"] for name in ("input_ids", "attention_mask")}
    written = original.generate(
        **rows, image_features=recorded["in/image_ids"], max_new_tokens=31, do_sample=False
    )
    assert torch.equal(written, recorded["out/greedy_max32"])


@torch.no_grad()
def test_original_value_function_equals_the_recording(shared, recorded, tmp_path):
    folder = shared / "golden" / "model_untied"
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert "lm_head.weight" in state
    torch.save(state | load_file(folder / "v_head.safetensors"), tmp_path / "value_function.pth")
    shutil.copy(folder / "config.json", tmp_path)
    value = load_value_model(tmp_path, dropout=0.1, features=True)
    assert not any("lm_head" in name for name in value.state_dict())
    assert (value(**inputs(recorded)) - recorded["out/values"]).abs().max() <= 1e-5
    value.save_pretrained(tmp_path / "ours")
    again = load_value_model(tmp_path / "ours", dropout=0.0, features=True)
    assert torch.equal(again(**inputs(recorded)), value(**inputs(recorded)))


@torch.no_grad()
def test_image_changes_the_output_and_zero_features_are_fused(policy, batch):
    decoder = torch.randint(2, 40, (3, 4))
    full = policy(**batch, decoder_input_ids=decoder).logits
    zeros = policy(**{**batch, "image_features": torch.zeros(3, 5, 12)}, decoder_input_ids=decoder).logits
    none = policy(**{**batch, "image_features": None}, decoder_input_ids=decoder).logits
    assert (full[:2] - zeros[:2]).abs().amax((1, 2)).min() > 1e-3
    assert torch.allclose(full[2], zeros[2], atol=1e-6)
    assert (zeros - none).abs().max() > 1e-3


def test_features_of_another_width_are_refused(policy, batch):
    with pytest.raises(AresError, match="7 numbers per patch and the model reads 12"):
        policy(**{**batch, "image_features": torch.zeros(3, 5, 7)}, decoder_input_ids=torch.ones(3, 1).long())


@torch.no_grad()
def test_prompt_padding_changes_nothing(policy, batch):
    value = value_from_model(policy)
    nn.init.normal_(value.v_head[2].weight)
    decoder = torch.randint(2, 40, (3, 4))
    wide = {name: nn.functional.pad(batch[name], (0, 6)) for name in ("input_ids", "attention_mask")}
    wide["image_features"] = batch["image_features"]
    for model in (policy, value):
        narrow, padded = (model(**rows, decoder_input_ids=decoder) for rows in (batch, wide))
        narrow, padded = (getattr(found, "logits", found) for found in (narrow, padded))
        assert torch.allclose(narrow, padded, atol=1e-5)
        alone = {name: tensor[1:2] for name, tensor in batch.items()}
        alone |= {name: alone[name][:, :6] for name in ("input_ids", "attention_mask")}
        single = model(**alone, decoder_input_ids=decoder[1:2])
        assert torch.allclose(getattr(single, "logits", single), narrow[1:2], atol=1e-5)


@torch.no_grad()
def test_features_are_cast_to_the_weights(policy, batch):
    output = policy.bfloat16()(**batch, decoder_input_ids=torch.ones(3, 2).long())
    assert output.logits.dtype == torch.bfloat16
    assert output.logits.isfinite().all()


def test_every_fusion_weight_gets_a_gradient(policy, batch):
    policy(**batch, labels=torch.randint(2, 40, (3, 4))).loss.backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("cls", [T5ForMultimodalGeneration, T5ForMultimodalValue])
def test_added_layers_are_not_initialized_with_unit_normals(policy, cls):
    model = cls(policy.config)
    fusion = model.encoder
    for layer in (fusion.image_dense, fusion.gate_dense, fusion.mha_layer.out_proj):
        bound = (6 / sum(layer.weight.shape)) ** 0.5
        assert 0.5 * bound < layer.weight.abs().max() <= bound
        assert layer.bias.abs().max() == 0
    if cls is T5ForMultimodalValue:
        assert model.v_head[0].weight.shape == (64, 32)
        assert 0.5 * 32**-0.5 < model.v_head[0].weight.abs().max() <= 32**-0.5


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")
def test_gradient_checkpointing_gives_the_same_gradients(policy, batch):
    labels = torch.randint(2, 40, (3, 4))
    policy.eval()
    policy(**batch, labels=labels).loss.backward()
    plain = {name: p.grad.clone() for name, p in policy.named_parameters()}
    policy.zero_grad()
    policy.gradient_checkpointing_enable()
    for module in policy.modules():
        module.training = not isinstance(module, nn.Dropout)
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    policy(**batch, labels=labels).loss.backward()
    for name, parameter in policy.named_parameters():
        assert torch.allclose(parameter.grad, plain[name], atol=1e-6), name
