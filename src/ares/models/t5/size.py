"""The size of a T5 from its settings or files, without building it."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from ares.models.policy import ModelSize
from ares.models.t5.names import checkpoint_shapes

# flan-alpaca with image fusion, untied head (Chung et al. 2022, table 1, and 145 x 1024 patches).
_KNOWN = {
    "base": ModelSize(251_907_840, 768, 24, 32_128),
    "large": ModelSize(790_496_256, 1024, 48, 32_128),
}


def t5_size(settings: Mapping[str, Any], vocabulary: int) -> ModelSize | None:
    """The size of the model that `conf/model` describes; None if it would have to be downloaded first."""
    if settings["init"] is None:
        width, layers, inner = settings["d_model"], settings["layers"], settings["d_kv"] * settings["heads"]
        gated = 3 if settings["feed_forward"].startswith("gated") else 2
        block = 4 * width * inner + gated * width * settings["d_ff"]
        fusion = 7 * width * width + 784 * width
        parameters = layers * (2 * block + 4 * width * inner) + vocabulary * width + fusion
        return ModelSize(parameters, width, 2 * layers, vocabulary)
    folder = Path(settings["init"])
    return _size_of_files(folder) if folder.is_dir() else _KNOWN.get(settings["name"])


def _size_of_files(folder: Path) -> ModelSize | None:
    shapes = {name: s for name, s in checkpoint_shapes(folder).items() if "embed_tokens" not in name}
    if "shared.weight" not in shapes:
        return None
    layers = len({name.split(".layer.")[0] for name in shapes if ".block." in name})
    vocabulary, width = shapes["shared.weight"]
    return ModelSize(sum(prod(shape) for shape in shapes.values()), width, layers, vocabulary)
