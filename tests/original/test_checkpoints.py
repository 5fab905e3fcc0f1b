"""Checkpoints of Multimodal-CoT, the original ARES and flan-alpaca in every form, read and written back."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5ForConditionalGeneration

from ares.models.adapters import load_adapter
from ares.models.t5 import T5ForMultimodalGeneration
from ares.models.t5.loading import load_model, load_value_model, save_model, value_from_model
from ares.models.t5.names import checkpoint_patch_dim
from ares.original.checkpoints import export_policy, export_value
from ares.text.tokenizers import train_tokenizer
from ares.types import AresError
from ares.vision.detr import DetrEncoder
from ares.vision.encoders import TimmEncoder
from tests.support.t5 import policy_around

ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


@pytest.fixture
def golden(shared):
    return shared / "golden" / "model_untied"


@pytest.fixture
def state(golden):
    return torch.load(golden / "pytorch_model.bin", weights_only=True)


def inputs(recorded):
    return {
        "input_ids": recorded["in/input_ids"],
        "attention_mask": recorded["in/attention_mask"],
        "image_features": recorded["in/image_ids"],
        "decoder_input_ids": recorded["in/decoder_input_ids"],
    }


def write(state, config, folder, ending):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    if ending == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(
            {k: v.clone() for k, v in state.items()}, folder / "model.safetensors", metadata={"format": "pt"}
        )
    return folder


def original_forward(state, config, recorded):
    """Logits of a policy whose every weight is set by hand, without `from_pretrained`."""
    from ares.models.t5.fusion import FusionT5Config

    settings = {key: value for key, value in config.items() if key != "torch_dtype"}
    tied = settings["tie_word_embeddings"]
    model = T5ForMultimodalGeneration(FusionT5Config(**{**settings, "scale_decoder_outputs": tied})).eval()
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(state["lm_head.weight"].clone())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "lm_head.weight":
                parameter.copy_(state[name])
    assert (model.lm_head.weight is model.shared.weight) == tied
    return model(**inputs(recorded)).logits


@torch.no_grad()
@pytest.mark.parametrize("ending", ["bin", "safetensors"])
@pytest.mark.parametrize("aliases", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied_checkpoints_with_and_without_aliases(
    golden, state, recorded, tmp_path, tied, aliases, ending
):
    config = {**json.loads((golden / "config.json").read_text()), "tie_word_embeddings": tied}
    if tied:
        state["lm_head.weight"] = state["shared.weight"]
    expected = original_forward(state, config, recorded)
    if not aliases:
        dropped = (*ALIASES, "lm_head.weight") if tied else ALIASES
        state = {name: tensor for name, tensor in state.items() if name not in dropped}
    model = load_model(write(state, config, tmp_path / "model", ending), dropout=0.0, features=True)
    found = model(**inputs(recorded)).logits
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)
    assert (model.lm_head.weight is model.shared.weight) == tied
    if not tied:
        reference = recorded["out/logits_full_row0"]
        assert (found[0, :12] - reference).abs().max() <= 1e-5 * reference.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("dim", [256, 2048])
def test_first_multimodal_cot_with_other_patch_dimensions(golden, state, recorded, tmp_path, dim):
    """UnifiedQA and DETR: the weights of the fusion are next to the encoder, not in it."""
    torch.manual_seed(0)
    weight = torch.randn(64, dim) / dim**0.5
    old = {re.sub(r"^encoder\.(image_dense|mha_layer|gate_dense)\.", r"\1.", k): v for k, v in state.items()}
    assert "gate_dense.bias" in old
    old["image_dense.weight"] = weight
    config = json.loads((golden / "config.json").read_text())
    folder = write(old, config, tmp_path / "old", "bin")
    assert checkpoint_patch_dim(folder) == dim
    model = load_model(folder, dropout=0.0, features=True)
    features = torch.randn(5, 100, dim)
    rows = {**inputs(recorded), "image_features": features}
    found = model(**rows).logits
    # The same with the image projected by hand: what the policy of 1024 numbers sees must be what this one sees.
    text = model.encoder(recorded["in/input_ids"], recorded["in/attention_mask"]).last_hidden_state
    image = features @ weight.T + state["encoder.image_dense.bias"]
    attention = torch.nn.MultiheadAttention(64, 1, batch_first=True)
    attention.load_state_dict(
        {k.removeprefix("encoder.mha_layer."): v for k, v in state.items() if "mha_layer" in k}
    )
    attended, _ = attention(text, image, image)
    mixed = torch.cat([text, attended], -1) @ state["encoder.gate_dense.weight"].T
    gate = torch.sigmoid(mixed + state["encoder.gate_dense.bias"])
    expected = (1 - gate) * text + gate * attended
    encoded = model.encoder(recorded["in/input_ids"], recorded["in/attention_mask"], image_features=features)
    assert (encoded.last_hidden_state - expected).abs().max() <= 1e-5
    # Saved, the names are ours.
    model.save_pretrained(tmp_path / "ours")
    assert "encoder.image_dense.weight" in load_file(tmp_path / "ours/model.safetensors")
    again = load_model(tmp_path / "ours", dropout=0.0, features=True)
    assert torch.equal(again(**rows).logits, found)


@torch.no_grad()
@pytest.mark.parametrize("kept", ["all", "shared.weight", "encoder.embed_tokens.weight"])
def test_original_value_function_with_and_without_aliases(golden, state, recorded, tmp_path, kept):
    names = {"shared.weight", *ALIASES, "lm_head.weight"}
    dropped = set() if kept == "all" else names - {kept}
    complete = {**state, **load_file(golden / "v_head.safetensors")}
    torch.save({k: v for k, v in complete.items() if k not in dropped}, tmp_path / "value_function.pth")
    shutil.copy(golden / "config.json", tmp_path)
    model = load_value_model(tmp_path, dropout=0.0, features=True)
    expected, mask = recorded["out/values"], recorded["in/decoder_attention_mask"]
    found = model(**inputs(recorded), decoder_attention_mask=mask)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)
    assert model.encoder.embed_tokens.weight is model.shared.weight


@pytest.mark.parametrize("ending", ["bin", "safetensors"])
def test_layers_missing_from_the_configuration_are_refused(golden, state, tmp_path, ending):
    config = {**json.loads((golden / "config.json").read_text()), "num_layers": 1}
    folder = write(state, config, tmp_path / "half", ending)
    with pytest.raises(AresError, match=r"more than its config\.json says \(encoder\.block\.1"):
        load_model(folder, dropout=0.0, features=True)
    torch.save({**state, **load_file(golden / "v_head.safetensors")}, folder / "value_function.pth")
    with pytest.raises(AresError, match=r"more than its config\.json says"):
        load_value_model(folder, dropout=0.0, features=True)


def test_untied_model_without_head_is_refused(golden, state, tmp_path):
    del state["lm_head.weight"]
    config = json.loads((golden / "config.json").read_text())
    for ending in ("bin", "safetensors"):
        with pytest.raises(AresError, match=r"lacks lm_head\.weight"):
            load_model(write(state, config, tmp_path / ending, ending), dropout=0.0, features=True)


@torch.no_grad()
def test_flan_alpaca_gets_a_fusion_and_equals_t5_without_images(original, recorded, tmp_path):
    plain = T5ForConditionalGeneration(original.config)
    plain.load_state_dict({k: v for k, v in original.state_dict().items() if k in plain.state_dict()})
    plain.lm_head.weight = torch.nn.Parameter(original.lm_head.weight.detach().clone())
    plain.config.tie_word_embeddings = False
    plain.eval().save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"no image fusion: encoder\.gate_dense\.bias.*encoder\.mha_layer"):
        model = load_model(tmp_path, dropout=0.0, features=True)
    rows = inputs(recorded)
    del rows["image_features"]
    assert torch.allclose(model(**rows).logits, plain(**rows).logits, atol=1e-5)


@torch.no_grad()
def test_exported_policies_are_the_original_files(golden, state, recorded, original, t5_tokenizer, tmp_path):
    save_model(original, t5_tokenizer, tmp_path / "ours")
    export_policy(tmp_path / "ours", tmp_path / "theirs")
    exported = torch.load(tmp_path / "theirs/pytorch_model.bin", weights_only=True)
    assert exported.keys() == state.keys()
    assert all(torch.equal(exported[name], state[name]) for name in state)
    before = json.loads((golden / "config.json").read_text())
    after = json.loads((tmp_path / "theirs/config.json").read_text())
    assert {key: after.get(key) for key in before if key != "transformers_version"} == {
        key: value for key, value in before.items() if key != "transformers_version"
    }
    assert not {"patch_num", "patch_dim", "scale_decoder_outputs"} & after.keys()
    assert sorted(p.name for p in (tmp_path / "theirs").glob("*.safetensors")) == []
    assert (tmp_path / "theirs/tokenizer.json").exists()
    again = load_model(tmp_path / "theirs", dropout=0.0, features=True)
    assert torch.equal(again(**inputs(recorded)).logits, original(**inputs(recorded)).logits)


def test_exported_tied_policies_keep_their_aliases(policy, tmp_path):
    words = train_tokenizer(["The capital of Texas is Austin."], vocab_size=100)
    save_model(policy, words, tmp_path / "ours")
    export_policy(tmp_path / "ours", tmp_path / "theirs")
    exported = torch.load(tmp_path / "theirs/pytorch_model.bin", weights_only=True)
    for alias in (*ALIASES, "lm_head.weight"):
        assert torch.equal(exported[alias], exported["shared.weight"])
    assert json.loads((tmp_path / "theirs/config.json").read_text())["tie_word_embeddings"] is True


@torch.no_grad()
def test_exported_value_functions_are_read_back(golden, state, original, recorded, tokenizer, tmp_path):
    value = value_from_model(original, seed=3)
    torch.nn.init.normal_(value.v_head[2].weight)
    value.save_pretrained(tmp_path / "value")
    save_model(original, tokenizer, tmp_path / "policy")
    export_value(tmp_path / "value", tmp_path / "policy", tmp_path / "old/value_function.pth")
    exported = torch.load(tmp_path / "old/value_function.pth", weights_only=True)
    head = load_file(golden / "v_head.safetensors")
    # The keys of the original: those of the policy and of the value head.
    assert exported.keys() == state.keys() | head.keys()
    assert torch.equal(exported["lm_head.weight"], state["lm_head.weight"])
    shutil.copy(golden / "config.json", tmp_path / "old")
    again = load_value_model(tmp_path / "old", dropout=0.0, features=True)
    assert torch.equal(again(**inputs(recorded)), value.eval()(**inputs(recorded)))


@torch.no_grad()
@pytest.mark.parametrize("ending", ["bin", "safetensors"])
def test_weights_in_several_files(golden, state, recorded, tmp_path, ending):
    """As large checkpoints come: shards, and an index that says which weight is in which."""
    whole = load_model(golden, dropout=0.0, features=True)(**inputs(recorded)).logits
    stem = "pytorch_model" if ending == "bin" else "model"
    shutil.copy(golden / "config.json", tmp_path)
    names, files = sorted(state), {}
    for number in range(3):
        file = f"{stem}-0000{number + 1}-of-00003.{ending}"
        part = {name: state[name].clone() for name in names[number::3]}
        if ending == "bin":
            torch.save(part, tmp_path / file)
        else:
            save_file(part, tmp_path / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": files}
    (tmp_path / f"{stem}.{ending}.index.json").write_text(json.dumps(index))
    assert checkpoint_patch_dim(tmp_path) == 1024
    found = load_model(tmp_path, dropout=0.0, features=True)(**inputs(recorded)).logits
    assert torch.equal(found, whole)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "value_function.pth", "adapter_model.bin", "vit.pth", "detr"]
)
def test_checkpoints_never_execute_code(golden, policy, tmp_path, name):
    """Every way in for a pickled file: an object that would run code on loading is refused, not run."""
    marker, folder = tmp_path / "executed", tmp_path / "checkpoint"
    folder.mkdir()
    shutil.copy(golden / "config.json", folder)
    file = folder / (name if "." in name else "pytorch_model.bin")
    torch.save({"shared.weight": torch.zeros(2, 2), "evil": Evil(marker)}, file)
    opened = {
        "pytorch_model.bin": lambda: load_model(folder, dropout=0.0, features=True),
        "value_function.pth": lambda: load_value_model(folder, dropout=0.0, features=True),
        "adapter_model.bin": lambda: load_adapter(policy_around(policy), folder),
        "vit.pth": lambda: TimmEncoder("test_vit", checkpoint=file).shape,
        "detr": lambda: DetrEncoder(str(folder)).shape,
    }
    (folder / "adapter_config.json").write_text(json.dumps({**OLD_CONFIG, "target_modules": ["q"]}))
    if name == "detr":
        (folder / "config.json").write_text(json.dumps({"model_type": "detr"}))
    with pytest.raises(AresError):
        opened[name]()
    assert not marker.exists()


# --------------------------------------------------------------------------------------------------
# Adapters
# --------------------------------------------------------------------------------------------------

OLD_CONFIG = {  # as PEFT 0.6.2 wrote it
    "alpha_pattern": {},
    "auto_mapping": None,
    "base_model_name_or_path": "experiments/somewhere",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layers_pattern": None,
    "layers_to_transform": None,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "task_type": "CAUSAL_LM",
}


@pytest.fixture
def old_adapter(shared, tmp_path):
    """The folder of an adapter with the recorded names and shapes, and its weights."""
    golden = json.loads((shared / "golden" / "lora.json").read_text())["models"]["small_untied"]
    torch.manual_seed(0)
    weights = {
        name.replace(".default.", "."): 0.2 * torch.randn(shape) / shape[1] ** 0.5
        for name, shape in golden["trainable_names_shapes"].items()
    }
    assert any("mha_layer.out_proj" in name for name in weights)
    assert any("lm_head" in name for name in weights)
    folder = tmp_path / "adapter"
    folder.mkdir()
    torch.save(weights, folder / "adapter_model.bin")
    targets = golden["target_modules"]
    (folder / "adapter_config.json").write_text(json.dumps({**OLD_CONFIG, "target_modules": targets}))
    return folder, weights


@torch.no_grad()
def test_old_adapter_changes_every_layer_but_the_dead_one(golden, old_adapter, recorded):
    folder, weights = old_adapter
    model = load_model(golden, dropout=0.0, features=True)
    plain = model(**inputs(recorded)).logits
    reference = load_model(golden, dropout=0.0, features=True)
    names = {name.removeprefix("base_model.model.").split(".lora_")[0] for name in weights}
    for name in names - {"encoder.mha_layer.out_proj"}:
        a, b = (weights[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
        reference.get_submodule(name).weight += 16 / 8 * b @ a
    expected = reference(**inputs(recorded)).logits
    policy = policy_around(model)
    with pytest.warns(UserWarning, match=r"adapts encoder\.mha_layer\.out_proj.*left out"):
        load_adapter(policy, folder)
    adapted = policy.model
    found = adapted(**inputs(recorded)).logits
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1)
    assert (found - plain).abs().max() > 0.1
    assert not any(parameter.requires_grad for parameter in adapted.parameters())
    merged = adapted.merge_and_unload()(**inputs(recorded)).logits
    assert (merged - found).abs().max() <= 1e-4 * found.abs().max().clamp(min=1)


def test_own_adapter_is_read_back(policy, batch, tmp_path):
    from peft import LoraConfig, get_peft_model

    targets = ["q", "v", "wi", "image_dense"]
    saved = get_peft_model(policy, LoraConfig(r=2, target_modules=targets, task_type="SEQ_2_SEQ_LM")).eval()
    for name, parameter in saved.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    saved.save_pretrained(tmp_path)
    ids = torch.randint(2, 40, (3, 4))
    expected = saved(**batch, decoder_input_ids=ids).logits
    base = saved.unload()
    again = policy_around(base)
    load_adapter(again, tmp_path)
    assert torch.equal(again.model(**batch, decoder_input_ids=ids).logits, expected)


def test_adapters_that_do_not_fit_are_refused(policy, golden, old_adapter, tmp_path):
    folder, weights = old_adapter
    with (
        pytest.raises(AresError, match="does not fit the policy"),
        pytest.warns(UserWarning, match="left out"),
    ):
        load_adapter(policy_around(policy), folder)
    removed = weights.pop("base_model.model.encoder.gate_dense.lora_B.weight")
    torch.save(weights, folder / "adapter_model.bin")
    with (
        pytest.raises(AresError, match=r"does not fit the policy at .*gate_dense"),
        pytest.warns(UserWarning, match="left out"),
    ):
        load_adapter(policy_around(load_model(golden, dropout=0.0, features=True)), folder)
    # Layers that the policy does not have: that of a larger model, of which only a part would be used.
    weights["base_model.model.encoder.gate_dense.lora_B.weight"] = removed
    name = next(name for name in weights if "encoder.block.0." in name)
    weights[name.replace("block.0", "block.9")] = weights[name]
    torch.save(weights, folder / "adapter_model.bin")
    with (
        pytest.raises(AresError, match=r"does not fit the policy at .*block\.9"),
        pytest.warns(UserWarning, match="left out"),
    ):
        load_adapter(policy_around(load_model(golden, dropout=0.0, features=True)), folder)
    with pytest.raises(AresError, match=r"no adapter_config\.json"):
        load_adapter(policy_around(policy), tmp_path)
