"""Loads policies and value models from checkpoints, builds them from scratch, and saves policies."""

import copy
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ares.models.finite import check_finite
from ares.models.heads import HEAD_FILE, load_head
from ares.models.t5.fusion import FUSION_MODULES, FusionT5Config
from ares.models.t5.model import T5ForMultimodalGeneration, T5ForMultimodalValue
from ares.models.t5.names import checkpoint_shapes, our_name
from ares.models.weights import POLICY_FILE, opening, read_weights
from ares.types import AresError

_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_REMEDY = "give a folder with config.json and the weights of a T5, or the id of one that can be downloaded"


def load_model(
    path: str | Path, *, dropout: float, features: bool, seed: int = 0
) -> T5ForMultimodalGeneration:
    """A policy from a folder or hub id: ours, Multimodal-CoT's, the original ARES's, or any plain T5.

    It is in float32, as T5 overflows in float16, and in eval mode.

    `dropout` is its dropout rate. Without `features` the unused fusion weights are frozen; with them, a
    checkpoint that has none gets fresh ones drawn from `seed`, and a warning names them. Raises AresError where
    there is no such checkpoint, or it lacks other weights or part of the fusion.
    """
    model, info = _open(T5ForMultimodalGeneration, path, dropout, seed)
    if any(key.startswith("v_head") for key in info["unexpected_keys"]):
        raise AresError(f"{path} holds a value model, not a policy; give the policy's folder.")
    fusion = {name for name, _ in model.named_parameters() if _is_fusion(name)}
    _check_layers(path, info["unexpected_keys"])
    missing = set(info["missing_keys"])
    if not model.config.scale_decoder_outputs and "lm_head.weight" not in checkpoint_shapes(path):
        missing.add("lm_head.weight")  # transformers ties it to the embedding, which such a model never does
    if missing - fusion or missing not in (set(), fusion):
        raise _lacks(path, missing)
    if missing and features:
        warnings.warn(
            f"{path} has no image fusion: {', '.join(sorted(missing))} are initialized from seed {seed} and must be trained.",
            stacklevel=2,
        )
    check_finite(model.named_parameters(), f"The model in {path}")
    _set_fusion_trainable(model, features)
    model.generation_config = _plain_generation_config(model.config)
    return model


def load_value_model(path: str | Path, *, dropout: float, features: bool) -> T5ForMultimodalValue:
    """A value model from its folder, in eval mode; also from the original's `value_function.pth` with its config.json.

    Raises AresError where there is no such checkpoint or it lacks weights.
    """
    old = Path(path) / "value_function.pth"
    if (Path(path) / HEAD_FILE).is_file():  # of a reward model
        model = value_from_model(load_model(path, dropout=dropout, features=features))
        load_head(model.v_head, Path(path))
        missing: set[str] = set()
    elif old.is_file():
        model, missing = _open_old_value(old, dropout)
    else:
        model, info = _open(T5ForMultimodalValue, path, dropout, 0)
        _check_layers(path, info["unexpected_keys"])
        missing = set(info["missing_keys"])
    if missing:
        raise _lacks(path, missing)
    check_finite(model.named_parameters(), f"The value model in {path}")
    _set_fusion_trainable(model, features)
    return model


def build_model(
    tokenizer: Any,
    *,
    d_model: int,
    d_ff: int,
    d_kv: int,
    layers: int,
    heads: int,
    patch_dim: int,
    patch_num: int,
    dropout: float,
    seed: int,
    features: bool = True,
    feed_forward: str = "relu",
) -> T5ForMultimodalGeneration:
    """A policy from scratch for a tokenizer's vocabulary, in eval mode; the same seed gives the same weights.

    `layers` each of encoder and decoder, `feed_forward` "relu" or "gated-gelu"; without `features` the unused
    fusion weights are frozen.
    """
    config = FusionT5Config(  # type: ignore[call-arg]
        vocab_size=len(tokenizer),
        d_model=d_model,
        d_ff=d_ff,
        d_kv=d_kv,
        num_layers=layers,
        num_heads=heads,
        patch_dim=patch_dim,
        patch_num=patch_num,
        dropout_rate=dropout,
        feed_forward_proj=feed_forward,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = T5ForMultimodalGeneration(config)
    _set_fusion_trainable(model, features)
    return model.eval()


def value_from_model(policy: T5ForMultimodalGeneration, *, seed: int = 0) -> T5ForMultimodalValue:
    """A value model with a copy of the policy's body, on its device, in its dtype and mode, that predicts 0.

    Only the last layer of `v_head` is zero; the first is drawn from `seed`, so that gradients reach the body
    as soon as the last has moved.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        value = T5ForMultimodalValue(copy.deepcopy(policy.config))
    body = {name: tensor for name, tensor in policy.state_dict().items() if not name.startswith("lm_head")}
    missing, unexpected = value.load_state_dict(body, strict=False)
    assert not unexpected, unexpected
    assert all(name.startswith("v_head") for name in missing), missing
    for parameter in value.v_head[2].parameters():
        nn.init.zeros_(parameter)
    trainable = {name: parameter.requires_grad for name, parameter in policy.named_parameters()}
    for name, parameter in value.named_parameters():
        parameter.requires_grad_(trainable.get(name, True))
    value.to(policy.device, policy.dtype)  # type: ignore[call-arg, arg-type]
    return value.train(policy.training)


def save_model(model: T5ForMultimodalGeneration, tokenizer: Any, folder: str | Path) -> None:
    """Writes a folder that `from_pretrained` opens: weights, configuration (with its dropout_rate), tokenizer."""
    check_finite(model.named_parameters(), "The policy")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _open(cls: Any, path: str | Path, dropout: float, seed: int) -> tuple[Any, dict[str, Any]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with opening(f"The model in {path} cannot be loaded", _REMEDY):
            _check_kind(Path(path))
            model, info = cls.from_pretrained(
                str(path), dropout_rate=dropout, dtype=torch.float32, output_loading_info=True
            )
    # Weights as loaded lie in the file's own, unaligned memory: slower, and rounded differently by some kernels.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model, info


def _check_kind(path: Path) -> None:
    config = path / "config.json"
    if (path / POLICY_FILE).is_file() or (
        config.is_file() and "vision_config" in json.loads(config.read_text())
    ):
        raise AresError(
            f"{path} holds a vision-language model, not a T5; use the model option that it belongs to, such as model=vlm "
            "model.init=<its base>."
        )


def _open_old_value(file: Path, dropout: float) -> tuple[T5ForMultimodalValue, set[str]]:
    state = read_weights(file)
    # The original's value model has a language-model head that it never uses.
    state = {our_name(name): tensor for name, tensor in state.items() if not name.startswith("lm_head")}
    if "encoder.image_dense.weight" not in state:
        raise _lacks(file, ["encoder.image_dense.weight"])
    with opening(f"The value model in {file} cannot be loaded", _REMEDY):
        patch_dim = state["encoder.image_dense.weight"].shape[1]
        config = FusionT5Config.from_pretrained(file.parent, dropout_rate=dropout, patch_dim=patch_dim)
        model = T5ForMultimodalValue(config)
        # One embedding under three names, of which a file may have only one.
        shared = next((state[name] for name in _EMBEDDINGS if name in state), None)
        state |= {} if shared is None else dict.fromkeys(_EMBEDDINGS, shared)
        missing, unexpected = model.load_state_dict(state, strict=False)
    _check_layers(file, unexpected)
    return model.float().eval(), set(missing)


def _is_fusion(name: str) -> bool:
    return name.startswith(tuple(f"encoder.{module}." for module in FUSION_MODULES))


def _set_fusion_trainable(model: nn.Module, trainable: bool) -> None:
    for name, parameter in model.named_parameters():
        if _is_fusion(name):
            parameter.requires_grad_(trainable)


def _check_layers(path: str | Path, unexpected: Iterable[str]) -> None:
    """Raises AresError where the weights have layers that config.json does not describe: they would be ignored."""
    layers = sorted(name for name in unexpected if ".block." in name)
    if layers:
        raise AresError(
            f"The checkpoint in {path} has more than its config.json says ({layers[0]}); give the config.json that belongs to it."
        )


def _lacks(path: str | Path, missing: Iterable[str]) -> AresError:
    names = sorted(missing)
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return AresError(
        f"The checkpoint in {path} lacks {listed}; it is not a complete T5 of this kind; give another one."
    )


def _plain_generation_config(config: FusionT5Config) -> Any:
    # What a checkpoint's generation_config.json says must neither steer generation nor spoil saving.
    from transformers import GenerationConfig

    return GenerationConfig(
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )
