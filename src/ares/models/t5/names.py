"""Maps the weight names of old checkpoints to ours."""

import re
from pathlib import Path
from typing import Any

from ares.models.weights import weight_shapes

# The first Multimodal-CoT (UnifiedQA, DETR) keeps the fusion next to the encoder, not in it.
OLD_NAMES = {r"^(image_dense|mha_layer|gate_dense)\.": r"encoder.\1."}


def our_name(name: str) -> str:
    """The name of a checkpoint's weight in our models."""
    for old, new in OLD_NAMES.items():
        name = re.sub(old, new, name)
    return name


def checkpoint_shapes(path: str | Path, **where: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's weights by our names (see `weight_shapes`)."""
    return {our_name(name): shape for name, shape in weight_shapes(path, **where).items()}


def checkpoint_patch_dim(path: str | Path, **where: Any) -> int | None:
    """D of `encoder.image_dense.weight` (d_model, D) in a checkpoint (a folder or hub id), None without one."""
    shape = checkpoint_shapes(path, **where).get("encoder.image_dense.weight")
    return None if shape is None else shape[1]
