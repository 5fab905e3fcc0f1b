"""The size of a vision-language model from its configuration, counted in the network without building its weights."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PretrainedConfig

from ares.models.memory import ModelSize, Stack
from ares.models.vlm.families import LANGUAGE_MODELS, TOWERS, lora_pattern, matching, parts_of
from ares.models.vlm.tiny import build_tiny

# Shapes of published configurations, by hub id: the family, its language model and its vision tower. The numbers of weights
# agree with those of the checkpoints (a test has them); SmolVLM-Instruct's was not found.
_QWEN7B = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
_QWEN7B |= {"num_attention_heads": 28, "num_key_value_heads": 4}
_QWEN32B = {"hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64}
_QWEN32B |= {"num_attention_heads": 40, "num_key_value_heads": 8}
_SMOL = {"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24}
_SMOL |= {"num_attention_heads": 32, "num_key_value_heads": 32}
_VIT = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2-VL-2B-Instruct": {
        "model_type": "qwen2_vl",
        "text_config": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28}
        | {"num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151_936},
        "vision_config": {"embed_dim": 1280, "hidden_size": 1536},
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "model_type": "qwen2_5_vl",
        "text_config": {**_QWEN7B, "vocab_size": 152_064},
        "vision_config": {"hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
    },
    "Qwen/Qwen2.5-VL-32B-Instruct": {
        "model_type": "qwen2_5_vl",
        "text_config": {**_QWEN32B, "vocab_size": 152_064},
        "vision_config": {"hidden_size": 1280, "intermediate_size": 3456, "out_hidden_size": 5120},
    },
    "Qwen/Qwen3-VL-4B-Instruct": {
        "model_type": "qwen3_vl",
        "text_config": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936},
        "vision_config": {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096}
        | {"out_hidden_size": 2560, "deepstack_visual_indexes": [5, 11, 17]},
        "tie_word_embeddings": True,
    },
    "llava-hf/llava-1.5-7b-hf": {
        "model_type": "llava",
        "text_config": {"model_type": "llama", "vocab_size": 32_064},
        "vision_config": {"model_type": "clip_vision_model", **_VIT, "image_size": 336, "patch_size": 14},
    },
    "OpenGVLab/InternVL3-8B-hf": {
        "model_type": "internvl",
        "text_config": {"model_type": "qwen2", **_QWEN7B, "vocab_size": 151_674},
        "vision_config": {**_VIT, "attention_bias": True},
        "tie_word_embeddings": False,
    },
    "HuggingFaceTB/SmolVLM-Instruct": {
        "model_type": "idefics3",
        "text_config": {**_SMOL, "vocab_size": 49_155},
        "vision_config": {**_SIGLIP, "image_size": 384, "patch_size": 14},
        "scale_factor": 3,
    },
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": {
        "model_type": "smolvlm",
        "text_config": {**_SMOL, "vocab_size": 49_280},
        "vision_config": {**_SIGLIP, "image_size": 384, "patch_size": 14},
        "scale_factor": 3,
    },
}


def vlm_size(settings: Mapping[str, Any], vocabulary: int) -> ModelSize | None:
    """The size of the model that `conf/model` describes; None if it would have to be downloaded first.

    `vocabulary` is that of a tokenizer that is trained with a model from scratch.
    """
    init, lora = settings["init"], settings["lora"]
    if init is None and "d_model" not in settings:
        return None
    if init is None:
        config: PretrainedConfig = build_tiny(settings, ["a"], vocab_size=vocabulary, seed=0)[0].config
        config.get_text_config().vocab_size = vocabulary
    elif init in PUBLISHED:
        config = published_config(init)
    elif (Path(init) / "config.json").is_file():
        config = AutoConfig.from_pretrained(init)
    else:
        return None
    size = size_of_config(config, targets=lora["targets"], vision=lora["vision"])
    return as_loaded(size, dtype=settings["dtype"], nf4=settings["quantization"] == "nf4", rank=lora["r"])


def as_loaded(size: ModelSize, *, dtype: str, nf4: bool, rank: int) -> ModelSize:
    """A model's size as a policy loads it: dtype of the weights, quantization, the rank of its adapter or 0."""
    return replace(
        size,
        weight=4 if dtype == "float32" else 2,
        quantized=size.quantized if nf4 else 0,
        rank=rank,
    )


def published_config(name: str) -> PretrainedConfig:
    """The configuration of a published model as far as it has shapes; other settings are its family's defaults."""
    shapes = dict(PUBLISHED[name])
    return AutoConfig.for_model(shapes.pop("model_type"), **shapes)


def size_of_config(
    config: PretrainedConfig, *, targets: str | None = None, vision: bool = False
) -> ModelSize:
    """The size of a model with this configuration; adapters are on `targets` (see `lora_pattern`).

    With `vision` the vision tower is trained, too.
    """
    with torch.device("meta"):
        network: Any = AutoModelForImageTextToText.from_config(config)
    text = config.get_text_config()
    (language,), towers = parts_of(network, LANGUAGE_MODELS), parts_of(network, TOWERS)
    names = matching(network, lora_pattern(targets, vision))
    return ModelSize(
        parameters=_count(network),
        vocabulary=text.vocab_size,
        adapted=sum(sum(network.get_submodule(name).weight.shape) for name in names),
        decoder=_stack(text),
        tower=replace(_stack(config.vision_config), gated=False) if vision else None,
        patches=getattr(config.vision_config, "spatial_merge_size", 1) ** 2,
        quantized=sum(
            module.weight.numel() for module in language.modules() if isinstance(module, nn.Linear)
        ),
        frozen=0 if vision else sum(map(_count, towers)),
    )


def _stack(config: Any) -> Stack:
    """The layers of a language model or a vision tower; families give their configurations different names."""

    def first(*names: str, default: int = 0) -> int:
        found = [getattr(config, name) for name in names if getattr(config, name, None)]
        return int(found[0]) if found else default

    width, heads = first("embed_dim", "hidden_size"), first("num_attention_heads", "num_heads")
    head = first("head_dim", default=width // heads)
    return Stack(
        layers=first("num_hidden_layers", "depth"),
        width=width,
        heads=heads,
        inner=heads * head,
        kv=first("num_key_value_heads", default=heads) * head,
        hidden=first("intermediate_size", default=4 * width),
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
