"""What a checkpoint's weights say of their shape, read without loading them."""

from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from ares.store import read_json

_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_IMAGE_WEIGHT = "encoder.image_dense.weight"


def checkpoint_patch_dim(path: str | Path, **where: Any) -> int | None:
    """D of `encoder.image_dense.weight` (d_model, D) in a checkpoint (a folder or hub id), None without one.

    `where` holds the hub's arguments of `from_pretrained`: revision, cache_dir, subfolder, ...
    """
    for name in _WEIGHT_FILES:
        file = cached_file(str(path), name, _raise_exceptions_for_missing_entries=False, **where)
        if file is None:
            continue
        if name.endswith(".index.json"):
            shard = read_json(file)["weight_map"].get(_IMAGE_WEIGHT)
            file = None if shard is None else cached_file(str(path), shard, **where)
        return None if file is None else _second_dimension(str(file))
    return None


def _second_dimension(file: str) -> int | None:
    if file.endswith(".safetensors"):
        from safetensors import safe_open

        with safe_open(file, framework="pt") as weights:
            found = _IMAGE_WEIGHT in weights.keys()  # noqa: SIM118
            return int(weights.get_slice(_IMAGE_WEIGHT).get_shape()[1]) if found else None
    import torch

    state = torch.load(file, map_location="meta", weights_only=True)
    return int(state[_IMAGE_WEIGHT].shape[1]) if _IMAGE_WEIGHT in state else None
