"""Image features, looked up by problem.

`features.npy` is (images, P, D) float32: P patches of D numbers per image. `index.json` holds the row of each
problem, the encoder, the images that were skipped, and the sha256 of `features.npy`.
"""

import mmap
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ares.storage.files import hash_of, read_object, sha256_file
from ares.types import AresError


def release(array: np.ndarray) -> None:
    """Releases the pages of a memory map, so that a process does not grow with the file; the kernel keeps its cache."""
    found = getattr(array, "_mmap", None)
    if found is not None and hasattr(mmap, "MADV_DONTNEED"):
        found.madvise(mmap.MADV_DONTNEED)


class FeatureStore:
    """The features in a folder written by `extract_features`, read from disk on demand.

    Each process opens the file at its first `get`, so that a store can be pickled and forked; the first one compares
    its contents with their hash. Raises AresError if the folder holds no features.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not (self.folder / "index.json").is_file():
            raise AresError(
                f"There are no image features in {self.folder}; extract them with stage=prepare, or use features=none."
            )
        index = read_object(self.folder / "index.json")
        try:
            self.sha256: str = index.pop("sha256")
            if self.sha256 != hash_of(index):
                raise ValueError
            self.repeat: int = index.get("repeat", 1)
            self.shape: tuple[int, int] = (index["shape"][0] * self.repeat, index["shape"][1])
            self.encoder: dict[str, Any] = dict(index["encoder"])
            self.skipped: dict[str, str] = dict(index.get("skipped", {}))
            self._rows: dict[str, int] = dict(index["rows"])
            self._contents: str = index["features_sha256"]
        except (KeyError, TypeError, ValueError, IndexError):
            raise self._damaged("index.json is not as it was written") from None
        self._verified = False
        self._features: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_features": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> "FeatureStore":
        return self  # read-only

    def __contains__(self, pid: str) -> bool:
        return pid in self._rows

    def check_owners(self, pids: Collection[str]) -> None:
        """Raises AresError if none of the problems with an image has features: all would silently get zeros."""
        if pids and not any(pid in self for pid in pids):
            raise AresError(
                f"The image features in {self.folder} have none of the {len(pids):,} problems with an image, such as "
                f"{next(iter(pids))}; they belong to another data set, or to another copy of it with other ids."
            )

    def missing(self, pids: Iterable[str]) -> dict[str, str]:
        """Which of the problems with an image have no features, and why."""
        return {pid: self.skipped.get(pid, "its image has none") for pid in pids if pid not in self}

    def get(self, pids: Iterable[str]) -> np.ndarray:
        """The features (B, P, D) float32 of problems; zeros for those without an image."""
        rows = [self._rows.get(pid) for pid in pids]
        found = np.zeros((len(rows), *self.shape), dtype=np.float32)
        if self._features is None and any(row is not None for row in rows):
            self._features = self._opened()
        for index, row in enumerate(rows):
            if row is not None:
                assert self._features is not None
                found[index] = np.repeat(self._features[row], self.repeat, axis=0)
        if self._features is not None:
            release(self._features)
        return found

    def verify(self) -> None:
        """Raises AresError if the contents of `features.npy` are not those that were written; reads the file once."""
        path = self.folder / "features.npy"
        if not self._verified:
            if not path.is_file():
                raise self._damaged("features.npy is missing")
            if sha256_file(path) != self._contents:
                raise self._damaged("the contents of features.npy have changed since they were written")
            self._verified = True

    def _opened(self) -> np.ndarray:
        # Each process maps the file itself; forked workers use the same read-only pages.
        self.verify()
        return np.load(self.folder / "features.npy", mmap_mode="r", allow_pickle=False)

    def _damaged(self, reason: str) -> AresError:
        return AresError(
            f"The image features in {self.folder} are damaged: {reason}; remove the folder and run stage=prepare again."
        )
