"""Facts about families of vision-language models, read off the network and its configuration where possible."""

import re
from collections.abc import Iterable
from typing import Any

from torch import nn
from transformers import PretrainedConfig

# The kinds of modules, by their names in transformers, inside `network.model`.
TOWERS = ("vision_tower", "visual", "vision_model")
PROJECTORS = ("multi_modal_projector", "connector")
LANGUAGE_MODELS = ("language_model", "text_model")
# By regular expression: names such as q_proj occur in vision towers, too.
_LINEAR = r"(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
LANGUAGE_TARGETS = rf".*\.({'|'.join(LANGUAGE_MODELS)})\..*\.{_LINEAR}"
VISION_TARGETS = (
    rf".*\.({'|'.join(TOWERS)})\..*\.(qkv|proj|{_LINEAR[1:-1]}|out_proj|fc1|fc2|linear_fc1|linear_fc2)"
)
# Kept in full precision where the language model is quantized; by the start of the full name.
UNQUANTIZED = [*(f"model.{name}" for name in (*TOWERS, *PROJECTORS)), "lm_head"]

# token_type_ids of a response: Gemma3 marks image tokens with 1, PaliGemma what is not part of its prefix.
_RESPONSE_TYPES = {"paligemma": 1}
# The processor refuses a text without an image.
_NEEDS_IMAGE = ("paligemma",)


def parts_of(network: nn.Module, names: tuple[str, ...]) -> list[nn.Module]:
    """The modules of `network.model` with these names."""
    inner: Any = network.model
    return [getattr(inner, name) for name in names if isinstance(getattr(inner, name, None), nn.Module)]


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The layers of the language model."""
    (language,) = parts_of(network, LANGUAGE_MODELS)
    return list(language.layers)  # type: ignore[arg-type]


def lora_pattern(targets: str | None, vision: bool) -> str:
    """The regular expression of the linear layers to adapt: `targets` or those of the language model; and of the vision tower."""
    pattern = targets or LANGUAGE_TARGETS
    return f"({pattern})|({VISION_TARGETS})" if vision else pattern


def matching(network: nn.Module, pattern: str) -> list[str]:
    """The names of the linear layers that a pattern matches in full, sorted."""
    return sorted(
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(pattern, name)
    )


def response_type(model_type: str) -> int:
    """The token_type_ids of a response, where a family has such ids."""
    return _RESPONSE_TYPES.get(model_type, 0)


def needs_image(model_type: str) -> bool:
    """Whether the processor refuses texts without an image, which then get a blank one."""
    return model_type in _NEEDS_IMAGE


def soft_cap(config: PretrainedConfig) -> float | None:
    """The bound that the family puts on logits by a tanh, None without one."""
    return getattr(config.get_text_config(), "final_logit_softcapping", None)


def limit_pixels(image_processor: Any, max_pixels: int) -> None:
    """Limits how many pixels of an image an image processor keeps, in place.

    Processors that enlarge images to a grid of tiles or to a fixed edge would undo a smaller input.
    """
    size = image_processor.size
    if getattr(image_processor, "merge_size", None):  # Qwen: the numbers are pixels, whatever their names
        largest = min(max_pixels, size["longest_edge"] or max_pixels)
        image_processor.size = {"shortest_edge": min(size["shortest_edge"], largest), "longest_edge": largest}
    elif hasattr(image_processor, "max_image_size"):  # Idefics3, SmolVLM: split into tiles of max_image_size
        edge = int(max_pixels**0.5)
        tile = image_processor.max_image_size["longest_edge"]
        image_processor.size = {"longest_edge": max(tile, min(edge, size["longest_edge"]))}
    elif hasattr(image_processor, "max_patches"):  # InternVL: tiles of `size`
        tiles = max_pixels // (size["height"] * size["width"])
        image_processor.max_patches = max(1, min(tiles, image_processor.max_patches))


def vision_weights(weights: Iterable[tuple[str, nn.Parameter]]) -> list[nn.Parameter]:
    """The weights that a batch without an image does not use: those outside of the language model and its output layer."""
    language = (*LANGUAGE_MODELS, "lm_head")
    return [weight for name, weight in weights if not any(part in name.split(".") for part in language)]
