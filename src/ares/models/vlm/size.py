"""The size of a vision-language model from its configuration, without its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from ares.models.policy import ModelSize


def vlm_size(settings: Mapping[str, Any], vocabulary: int) -> ModelSize | None:
    """The size of the model that `conf/model` describes; None if it would have to be downloaded first."""
    from ares.models.vlm.tiny import build_tiny

    if settings["init"] is None:
        network: torch.nn.Module = build_tiny(settings, ["a"], vocab_size=vocabulary, seed=0)[0]
    elif Path(settings["init"]).is_dir():
        with torch.device("meta"):
            network = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(settings["init"]))
    else:
        return None
    text: Any = network.config.get_text_config()  # type: ignore[operator, union-attr]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ModelSize(parameters, text.hidden_size, text.num_hidden_layers, text.vocab_size)
