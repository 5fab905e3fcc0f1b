"""Weight files of checkpoints: their shapes without loading them, and their tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from ares.storage.files import read_object
from ares.types import AresError

_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.safetensors",
)


def weight_shapes(path: str | Path, **where: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's weights (a folder or hub id) by name; empty without a weight file.

    `where` holds the hub's arguments of `from_pretrained`: revision, cache_dir, subfolder, ...
    """
    for name in _WEIGHT_FILES:
        file = cached_file(str(path), name, _raise_exceptions_for_missing_entries=False, **where)
        if file is None:
            continue
        shards = [name]
        if name.endswith(".index.json"):
            shards = sorted(set(read_object(file)["weight_map"].values()))
        files = [cached_file(str(path), shard, **where) for shard in shards]
        return {key: shape for part in files for key, shape in _shapes(str(part)).items()}
    return {}


# In the folder of every policy of a vision-language model, and in no other's.
POLICY_FILE = "policy.json"


@contextmanager
def without_bars() -> Iterator[None]:
    """Hides the progress bars of transformers, those of downloads included."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def opening(problem: str, remedy: str) -> Iterator[None]:
    """Turns any error that a checkpoint raises inside into the AresError `<problem> (<why>); <remedy>.`"""
    try:
        yield
    except AresError:
        raise
    except BaseException as error:  # a torn or foreign file fails in as many ways as there are formats
        if (
            not isinstance(error, Exception) and type(error).__name__ != "PanicException"
        ):  # of libraries in Rust
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if "ignore_mismatched_sizes" in reason:  # transformers refers to a report that it prints
            reason = "its weights are of other sizes than its config.json says"
        raise AresError(f"{problem} ({reason}); {remedy}.") from error


def read_weights(file: Path) -> dict[str, Any]:
    """The tensors of a safetensors or pickled file by name, on the CPU; raises AresError where it holds none."""
    import torch
    from safetensors.torch import load_file

    with opening(f"The weights in {file} cannot be loaded", "copy the file again"):
        found = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
        if not isinstance(found, dict) or not all(isinstance(t, torch.Tensor) for t in found.values()):
            raise TypeError("it does not map names to tensors")
        return found


def _shapes(file: str) -> dict[str, tuple[int, ...]]:
    if file.endswith(".safetensors"):
        from safetensors import safe_open

        with safe_open(file, framework="pt") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    import torch

    state = torch.load(file, map_location="meta", weights_only=True)
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
