"""The size of a T5 from its settings or its folder, counted in the network without building its weights."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ares.models.memory import ModelSize, Stack
from ares.models.t5.fusion import FusionT5Config
from ares.models.t5.lora import lora_targets
from ares.models.t5.model import T5ForMultimodalGeneration
from ares.models.t5.names import checkpoint_patch_dim
from ares.models.weights import opening

# Chung et al. 2022, table 1; flan-alpaca's head is not tied to the embedding.
_FLAN: dict[str, Any] = {
    "vocab_size": 32_128,
    "d_kv": 64,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
_PUBLISHED: dict[str, dict[str, Any]] = {
    "declare-lab/flan-alpaca-base": {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "declare-lab/flan-alpaca-large": {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
}


def t5_size(settings: Mapping[str, Any], vocabulary: int) -> ModelSize | None:
    """The size of the model that `conf/model` describes; None if it would have to be downloaded first."""
    init = settings["init"]
    if init is None:
        sizes: dict[str, Any] = {
            "d_model": settings["d_model"],
            "d_ff": settings["d_ff"],
            "d_kv": settings["d_kv"],
        }
        sizes |= {"num_layers": settings["layers"], "num_heads": settings["heads"]}
        sizes |= {"feed_forward_proj": settings["feed_forward"], "vocab_size": vocabulary}
        return _size(**sizes)
    if init in _PUBLISHED:
        return _size(**_FLAN, **_PUBLISHED[init])
    if not (Path(init) / "config.json").is_file():
        return None
    with opening(f"The model in {init} cannot be read", "copy the folder again"):
        config = FusionT5Config.from_pretrained(init)
        config.patch_dim = checkpoint_patch_dim(init) or config.patch_dim
        return size_of_config(config)


@cache
def _size(**sizes: Any) -> ModelSize:
    return size_of_config(FusionT5Config(**sizes))


def size_of_config(config: FusionT5Config) -> ModelSize:
    """The size of a T5 with image fusion and this configuration."""
    with torch.device("meta"):
        model = T5ForMultimodalGeneration(config)
        if not config.scale_decoder_outputs:  # transformers ties the head of every T5
            model.lm_head.weight = nn.Parameter(torch.empty(config.vocab_size, config.d_model))
    adapted: list[Any] = [model.get_submodule(name) for name in lora_targets(model, "all", features=True)]
    inner = config.num_heads * config.d_kv
    layers: dict[str, Any] = {"width": config.d_model, "heads": config.num_heads, "inner": inner, "kv": inner}
    layers |= {"hidden": config.d_ff, "gated": config.is_gated_act, "kept": 4 if config.is_gated_act else 2}
    return ModelSize(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocabulary=config.vocab_size,
        adapted=sum(layer.in_features + layer.out_features for layer in adapted),
        encoder=Stack(config.num_layers, bias=True, **layers),
        decoder=Stack(config.num_decoder_layers or config.num_layers, bias=True, cross=True, **layers),
    )
