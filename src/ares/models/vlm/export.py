"""A trained policy as a plain transformers model that needs neither PEFT nor this package, or as it is with its base."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ares.models.adapters import AdapterSet
from ares.models.vlm.loading import VlmSettings, open_network
from ares.models.vlm.processors import open_processor
from ares.models.weights import without_bars
from ares.storage.files import atomic_folder

_BASE = "base"  # a folder in the policy's, relative to which `VlmSettings.read` finds it


def export_policy(folder: Path, target: Path) -> list[str]:
    """Writes the model and the processor of a policy's folder, with the adapter merged into its base.

    An adapter of a quantized base is merged into the base as it was before; the returned warning says so. Raises
    AresError where the folder holds no policy or its base has changed.
    """
    settings = VlmSettings.read(folder)
    network: Any = open_network(settings.base or folder, replace(settings, quantization="none"))
    processor = open_processor(folder)
    if settings.lora.r:
        adapters = AdapterSet(network)
        adapters.load("policy", folder)
        adapters.merge("policy")
    # The policy ends its turns with the processor's EOS, which need not be the base's.
    network.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    with atomic_folder(target) as temporary, without_bars():
        network.save_pretrained(temporary)
        processor.save_pretrained(temporary)
    if settings.quantization == "none":
        return []
    return [
        f"{folder} was trained on a base in {settings.quantization}; it is merged into {settings.base} in "
        f"{settings.dtype}, so that its probabilities differ from those of the trained model."
    ]


def bundle_policy(folder: Path, target: Path) -> None:
    """Copies a policy's folder and, into `base/` in it, the base of its adapter if that is a local folder.

    A base from the hub stays where it is. Raises AresError as `VlmSettings.read` does.
    """
    settings = VlmSettings.read(folder)
    shutil.copytree(folder, target, dirs_exist_ok=True)
    if settings.base is None or not (base := Path(settings.base)).is_dir():
        return
    (target / _BASE).mkdir(exist_ok=True)
    for file in base.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copy(file, target / _BASE)
    replace(settings, base=_BASE).write(target)
