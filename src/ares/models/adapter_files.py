"""The two files of a LoRA adapter: adapter_config.json and its weights."""

import copy
from pathlib import Path
from typing import Any

from torch import Tensor

from ares.models.finite import check_finite
from ares.models.weights import read_weights
from ares.types import AresError


def read_adapter(folder: Path) -> dict[str, Tensor]:
    """An adapter's weights. Raises AresError where a file is missing or torn, or a weight is not finite."""
    if not (folder / "adapter_config.json").is_file():
        raise AresError(f"{folder} holds no adapter_config.json; give the folder of a LoRA adapter.")
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (folder / name).is_file():
            weights = read_weights(folder / name)
            check_finite(weights.items(), f"The adapter in {folder}")
            return weights
    raise AresError(
        f"{folder} holds neither adapter_model.safetensors nor adapter_model.bin; its weights are missing."
    )


def write_adapter(settings: Any, weights: dict[str, Tensor], folder: Path, *, base: str | None) -> None:
    """Writes the two files of an adapter, whose bytes depend on nothing but the arguments.

    `settings`: PEFT's; `base`: the base model that they name. Raises AresError for weights that are not finite.
    """
    from safetensors.torch import save_file

    check_finite(weights.items(), "The adapter")
    settings = copy.deepcopy(settings)
    settings.base_model_name_or_path, settings.lora_dropout, settings.inference_mode = base, 0.0, True
    if isinstance(settings.target_modules, set):
        settings.target_modules = sorted(settings.target_modules)
    folder.mkdir(parents=True, exist_ok=True)
    settings.save_pretrained(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
