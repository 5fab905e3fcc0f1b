"""Converts the feature arrays that Multimodal-CoT published into the format that `FeatureStore` reads.

`vit.pth` (N, 145, 1024), `clip.npy` (N, 49, 2048), `detr.npy` (N, 100, 256), `resnet.npy` (N, 2048), and
`name_map.json`, which maps problem ids to rows.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ares.storage.files import read_json
from ares.types import AresError
from ares.vision.extraction import finish, new_array
from ares.vision.features import release

_BLOCK = 256  # images copied at a time


def import_features(array: Path | str, name_map: Path | str, folder: Path | str, *, repeat: int = 1) -> None:
    """Writes `features.npy` and `index.json` from a published array and its `name_map.json` into a folder.

    The array is memory-mapped and copied in blocks; only tensors are unpickled. One vector per image (N, D)
    becomes one patch, repeated `repeat` times by the reader. Raises AresError if a file is missing or is not such
    an array, or if the map refers to rows that the array does not have.
    """
    array, folder = Path(array), Path(folder)
    source = _mapped(array)
    if source.ndim == 4 and source.shape[1] == 1:
        source = source[:, 0]
    if source.ndim == 2:
        source = source[:, None]
    if source.ndim != 3:
        raise AresError(f"{array} has shape {tuple(source.shape)}; it must be (images, patches, numbers).")
    count, patches, dim = (int(size) for size in source.shape)
    rows = _rows(Path(name_map), array, count)
    folder.mkdir(parents=True, exist_ok=True)
    target = new_array(folder / "features.partial.npy", (count, patches, dim))
    for start in range(0, count, _BLOCK):
        block = source[start : start + _BLOCK]
        target[start : start + _BLOCK] = block if isinstance(block, np.ndarray) else block.float().numpy()
        target.flush()
        release(target)
        if isinstance(block, np.ndarray):  # torch does not expose its map
            release(block)
    fingerprint = {"encoder": "published", "array": array.name}
    finish(folder, rows, (patches, dim), repeat, fingerprint, skipped={})


def _rows(path: Path, array: Path, count: int) -> dict[str, int]:
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict):
        raise AresError(
            f"features.name_map={path} is not a JSON file that maps problem ids to rows; correct the path."
        )
    found = {}
    for pid, row in content.items():
        if not str(row).isdecimal() or int(row) >= count:
            raise AresError(
                f"{path} gives problem {pid} row {row}, and {array} has rows 0 to {count - 1}; they do not belong together."
            )
        found[pid] = int(row)
    return found


def _mapped(path: Path) -> Any:
    """The array of a .npy, .pth or .pt file, memory-mapped."""
    if not path.is_file():
        raise AresError(f"features.arrays={path} is not a file; give the path of vit.pth, detr.npy, ...")
    if path.suffix == ".npy":
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise AresError(f"{path} is not a plain array of numbers ({error}); it is not read.") from None
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "iuf":
            raise AresError(
                f"{path} is not a plain array of numbers (it holds text or objects); it is not read."
            )
        return found
    return _mapped_tensor(path)


def _mapped_tensor(path: Path) -> Any:
    import pickle

    import torch

    if not zipfile.is_zipfile(path):
        raise AresError(
            f"{path} is in torch's old format, which cannot be mapped into memory; save it again with torch.save."
        )
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise AresError(
            f"{path} holds more than tensors and is not read ({str(error).splitlines()[0]})."
        ) from None
    if not isinstance(tensor, torch.Tensor):
        raise AresError(f"{path} holds {type(tensor).__name__}, not one tensor; it is not read.")
    return tensor
