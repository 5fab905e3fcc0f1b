"""Opening, building and saving policies and value models."""

import copy
import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, T5ForConditionalGeneration

from ares.models.t5 import T5ForMultimodalGeneration
from ares.models.t5.loading import (
    build_model,
    load_model,
    load_value_model,
    save_model,
    value_from_model,
)
from ares.models.t5.names import checkpoint_patch_dim
from ares.types import AresError
from tests.support.t5 import lengths_of, token_logprobs, values

SIZES = {"d_model": 32, "d_ff": 64, "d_kv": 8, "layers": 2, "heads": 4, "patch_dim": 12, "patch_num": 5}


def fusion_of(model):
    return {
        n: p
        for n, p in model.named_parameters()
        if "image_dense" in n or "mha_layer" in n or "gate_dense" in n
    }


@pytest.fixture
def saved(policy, tokenizer, tmp_path):
    save_model(policy, tokenizer, tmp_path / "policy")
    return tmp_path / "policy"


def rewrite(folder, change):
    """Changes the tensors of a saved policy."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@torch.no_grad()
def test_saved_policy_loads_bitwise_equal(policy, batch, saved):
    ids, mask = torch.randint(2, 40, (3, 6)), torch.ones(3, 6)
    expected = token_logprobs(policy, **batch, response_ids=ids, lengths=lengths_of(mask))
    for again in (
        load_model(saved, dropout=0.0, features=True),
        T5ForMultimodalGeneration.from_pretrained(saved),
    ):
        assert again.state_dict().keys() == policy.state_dict().keys()
        for name, tensor in policy.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name]), name
    found = token_logprobs(
        load_model(saved, dropout=0.0, features=True), **batch, response_ids=ids, lengths=lengths_of(mask)
    )
    assert torch.equal(found, expected)


def test_dropout_argument_overrides_saved_rate(saved, tokenizer, tmp_path):
    assert json.loads((saved / "config.json").read_text())["dropout_rate"] == 0.1
    model = load_model(saved, dropout=0.0, features=True)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    save_model(model, tokenizer, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["dropout_rate"] == 0.0


def test_tokenizer_is_saved_with_the_policy(policy, t5_tokenizer, tmp_path):
    save_model(policy, t5_tokenizer, tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).encode("A magnet.") == t5_tokenizer.encode("A magnet.")


@pytest.mark.parametrize("dim", [12, 7])
@pytest.mark.parametrize("stored_as", ["model.safetensors", "pytorch_model.bin"])
def test_patch_dim_is_read_from_the_weights(policy, tmp_path, dim, stored_as):
    config = copy.deepcopy(policy.config)
    config.patch_dim = dim
    T5ForMultimodalGeneration(config).save_pretrained(tmp_path)
    text = json.loads((tmp_path / "config.json").read_text())
    del text["patch_dim"], text["patch_num"]
    (tmp_path / "config.json").write_text(json.dumps(text))
    if stored_as.endswith("bin"):
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / stored_as)
        (tmp_path / "model.safetensors").unlink()
    assert checkpoint_patch_dim(tmp_path) == dim
    model = T5ForMultimodalGeneration.from_pretrained(tmp_path)
    assert model.config.patch_dim == dim
    assert model.encoder.image_dense.in_features == dim


def test_patch_dim_of_a_sharded_checkpoint(policy, tmp_path):
    policy.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert checkpoint_patch_dim(tmp_path) == 12


def test_plain_t5_gets_a_fusion_with_a_warning(policy, tmp_path):
    T5ForConditionalGeneration(policy.config).save_pretrained(tmp_path)
    assert checkpoint_patch_dim(tmp_path) is None
    with pytest.warns(UserWarning, match=r"encoder.gate_dense.bias.*initialized from seed 4"):
        model = load_model(tmp_path, dropout=0.0, features=True, seed=4)
    assert model.encoder.image_dense.weight.std() < 0.5
    with pytest.warns(UserWarning, match="no image fusion"):
        same = load_model(tmp_path, dropout=0.0, features=True, seed=4)
    assert all(torch.equal(p, fusion_of(same)[n]) for n, p in fusion_of(model).items())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert load_model(tmp_path, dropout=0.0, features=False).generation_config.top_k is None


@pytest.mark.parametrize(
    "name", ["encoder.gate_dense.bias", "decoder.block.1.layer.0.SelfAttention.q.weight"]
)
def test_any_other_missing_weight_is_refused(saved, name):
    rewrite(saved, lambda tensors: tensors.pop(name))
    with pytest.raises(AresError, match=f"lacks {name}"):
        load_model(saved, dropout=0.0, features=True)


def test_without_features_the_fusion_is_frozen(saved, batch):
    model = load_model(saved, dropout=0.0, features=False)
    assert len(fusion_of(model)) == 8
    assert not any(p.requires_grad for p in fusion_of(model).values())
    assert not any(p.requires_grad for p in fusion_of(value_from_model(model)).values())
    model(**{**batch, "image_features": None}, labels=torch.randint(2, 40, (3, 4))).loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert all(p.requires_grad for p in load_model(saved, dropout=0.0, features=True).parameters())


def test_half_precision_checkpoints_load_as_float32(policy, tmp_path):
    policy.half().save_pretrained(tmp_path)
    assert load_model(tmp_path, dropout=0.0, features=True).dtype == torch.float32


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(AresError, match=r"cannot be loaded.*give a folder"):
        load_model(tmp_path / "nothing", dropout=0.0, features=True)


def test_saved_generation_config_is_ignored(policy, saved, tokenizer, tmp_path):
    (saved / "generation_config.json").write_text('{"temperature": 0.5, "num_beams": 4, "max_length": 7}')
    model = load_model(saved, dropout=0.0, features=True)
    save_model(model, tokenizer, tmp_path / "again")
    kept = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert kept.keys() - {"transformers_version", "_from_model_config"} == {
        "pad_token_id",
        "eos_token_id",
        "decoder_start_token_id",
    }


def test_value_model_copies_the_policy_and_starts_at_zero(policy, batch):
    policy.train()
    value = value_from_model(policy)
    assert value.training
    for name, tensor in value.state_dict().items():
        if not name.startswith("v_head"):
            assert torch.equal(tensor, policy.state_dict()[name])
            assert tensor.data_ptr() != policy.state_dict()[name].data_ptr()
    ids, mask = torch.randint(2, 40, (3, 6)), torch.ones(3, 6)
    found = values(value, **batch, response_ids=ids, lengths=lengths_of(mask))
    assert (found == 0).all()
    assert value.v_head[0].weight.std() > 0.05
    again, other = value_from_model(policy), value_from_model(policy, seed=1)
    assert torch.equal(value.v_head[0].weight, again.v_head[0].weight)
    assert not torch.equal(value.v_head[0].weight, other.v_head[0].weight)
    optimizer = torch.optim.SGD(value.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (values(value, **batch, response_ids=ids, lengths=lengths_of(mask)) - 1).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in value.parameters())


def test_untied_head_stays_untied(original, tokenizer, tmp_path):
    save_model(original, tokenizer, tmp_path)
    model = load_model(tmp_path, dropout=0.0, features=True)
    assert torch.equal(model.lm_head.weight, original.lm_head.weight)
    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    assert not model.config.scale_decoder_outputs


def test_value_folder_reopens_bit_equal_and_is_no_policy(policy, batch, tmp_path):
    value = value_from_model(policy).eval()
    torch.nn.init.normal_(value.v_head[2].weight)
    value.save_pretrained(tmp_path)
    again = load_value_model(tmp_path, dropout=0.0, features=True)
    ids, mask = torch.randint(2, 40, (3, 6)), torch.ones(3, 6)
    found = [values(m, **batch, response_ids=ids, lengths=lengths_of(mask)) for m in (value, again)]
    assert torch.equal(*found)
    with pytest.raises(AresError, match="holds a value model"):
        load_model(tmp_path, dropout=0.0, features=True)
    with pytest.raises(AresError, match=r"lacks v_head\.0\.bias"):
        load_value_model(_policy_folder(policy, tmp_path / "policy"), dropout=0.0, features=True)


def _policy_folder(policy, folder):
    policy.save_pretrained(folder)
    return folder


def test_same_seed_same_policy(tokenizer):
    first, same, other = (build_model(tokenizer, **SIZES, dropout=0.0, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.shared.weight, other.shared.weight)
    state = torch.random.get_rng_state()
    frozen = build_model(tokenizer, **SIZES, dropout=0.0, seed=0, features=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(p.requires_grad for p in fusion_of(frozen).values())
    assert frozen.config.vocab_size == 40
