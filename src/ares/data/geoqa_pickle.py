"""GeoQA's pickles, read without running code: nothing but plain values and numpy arrays."""

import io
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ares.types import AresError

_ARRAYS = {("numpy", "ndarray"), ("numpy", "dtype")} | {
    (f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")
}


class _Plain(pickle.Unpickler):
    """An unpickler that knows no names but numpy's arrays; a pickle can otherwise run anything."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_pickle(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a pickled list, each with its place. Raises AresError for anything but a list of plain dicts."""
    try:
        rows = _Plain(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises anything
        raise AresError(f"{path} cannot be read ({error}); put GeoQA's own file there.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise AresError(f"{path} does not hold a list of problems; put GeoQA's own file there.")
    yield from ((f"{path}: row {number}", row) for number, row in enumerate(rows, start=1))


def write_picture(path: Path, place: str, row: dict[str, Any]) -> Path:
    """Writes the row's picture, (H, W) or (H, W, 3) numbers of 0 to 255, unless the file is there; returns its path."""
    import numpy as np
    from PIL import Image

    picture = row.get("image")
    if not isinstance(picture, np.ndarray) or picture.ndim not in (2, 3):
        raise AresError(f'{place}, field "image" is no picture; put GeoQA\'s own file there.')
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        Image.fromarray(picture.astype(np.uint8)).save(temporary, format="PNG")
        os.replace(temporary, path)
    return path
