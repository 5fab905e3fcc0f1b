"""Extracts image features once, with a frozen encoder, into a folder that `FeatureStore` reads."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from ares.storage.files import hash_of, read_json, read_object, sha256_file, write_json
from ares.vision.encoders import Encoder
from ares.vision.features import release
from ares.vision.reading import present_images, read_images, stamp, unreadable_images


def extract_features(
    images: Mapping[str, Path],
    encoder: Encoder,
    folder: Path | str,
    *,
    batch_size: int = 32,
    workers: int = 0,
    on_corrupt: str = "refuse",
) -> None:
    """Writes `features.npy` and `index.json` of the images of problems (pid to path) into a folder.

    Problems with the same image file use the same row. An interrupted call resumes: rows are written to
    `features.partial.npy` and counted in `progress.json`. Unreadable images do not stop the extraction; at the
    end an AresError lists them (after a repair only they are encoded again) or, with `on_corrupt="skip"`, they
    are listed in the index and treated as absent. `workers` processes read files.
    """
    folder = Path(folder)
    present, missing = present_images(images, on_corrupt, "features")
    paths = list(dict.fromkeys(present.values()))
    shape, fingerprint = encoder.shape, encoder.fingerprint()
    corrupt = _write_rows(paths, encoder, shape, fingerprint, folder, batch_size, workers)
    reasons = {paths[row]: reason for row, reason in corrupt.items()}
    unreadable = unreadable_images(present, reasons, on_corrupt, "features")
    row_of = {path: row for row, path in enumerate(paths)}
    rows = {pid: row_of[path] for pid, path in present.items() if pid not in unreadable}
    finish(folder, rows, (shape[0], shape[1]), encoder.repeat, fingerprint, missing | unreadable)


def finish(
    folder: Path,
    rows: Mapping[str, int],
    shape: tuple[int, int],
    repeat: int,
    fingerprint: Mapping[str, Any],
    skipped: Mapping[str, str],
) -> None:
    """Renames a complete `features.partial.npy`, writes the index last, and deletes all other files."""
    if (folder / "features.partial.npy").exists():
        os.replace(folder / "features.partial.npy", folder / "features.npy")
    index = {
        "rows": dict(rows),
        "shape": list(shape),
        "repeat": repeat,
        "encoder": dict(fingerprint),
        "skipped": dict(skipped),
        "features_sha256": sha256_file(folder / "features.npy"),
    }
    # One hash covers rows, encoder and numbers.
    write_json(folder / "index.json", {"sha256": hash_of(index), **index})
    for left in ("progress.json", "stamps.json"):
        (folder / left).unlink(missing_ok=True)


def _write_rows(
    paths: Sequence[Path],
    encoder: Encoder,
    shape: tuple[int, int],
    fingerprint: Mapping[str, Any],
    folder: Path,
    batch_size: int,
    workers: int,
) -> dict[int, str]:
    """Encodes the remaining rows; returns the reasons of those that could not be encoded."""
    folder.mkdir(parents=True, exist_ok=True)
    key = hash_of([[str(path) for path in paths], fingerprint, list(shape)])
    stamps = [stamp(path) for path in paths]
    file, done, corrupt = _resumed(folder, key, stamps)
    if done:  # replaced images are recorded before their new stamps
        write_json(folder / "progress.json", {"key": key, "done": done, "corrupt": corrupt})
    write_json(folder / "stamps.json", stamps)
    features = _opened(file, (len(paths), *shape))
    todo = {row: paths[row] for row in (*sorted(corrupt), *range(done, len(paths)))}
    sizes = {"total": len(paths), "batch_size": batch_size, "workers": workers}
    for good, unreadable in read_images(todo, encoder.read, "image features", **sizes):
        if good:
            features[list(good)] = encoder.encode(list(good.values()))
        corrupt = {row: reason for row, reason in corrupt.items() if row not in good} | unreadable
        done = max(done, *(row + 1 for row in (*good, *unreadable)))
        features.flush()
        release(features)
        write_json(folder / "progress.json", {"key": key, "done": done, "corrupt": corrupt})
    return corrupt


def _opened(file: Path, shape: tuple[int, ...]) -> np.memmap:
    if file.exists():
        return open_memmap(file, mode="r+")
    return new_array(file, shape)


def new_array(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """A float32 array in a new file, whose space is taken at once: a full disk would end the process without a message."""
    array = open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    with file.open("r+b") as opened:
        os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return array


def _fits(state: Mapping[str, Any], file: Path, rows: int) -> bool:
    """Whether the progress of a killed process can be continued: its file is complete, its counts are possible."""
    try:
        features = np.load(file, mmap_mode="r", allow_pickle=False)
        places = [*map(int, state["corrupt"]), state["done"] - 1]
        return (
            len(features) == rows and features.dtype == np.float32 and all(-1 <= row < rows for row in places)
        )
    except (OSError, LookupError, TypeError, ValueError, EOFError):
        return False


def _resumed(folder: Path, key: str, stamps: list[list[int]]) -> tuple[Path, int, dict[int, str]]:
    """The file to write to, how many of its rows are done, and which of these are corrupt or were replaced since."""
    partial, complete = folder / "features.partial.npy", folder / "features.npy"
    state = read_object(folder / "progress.json") if (folder / "progress.json").exists() else {}
    file = partial if partial.exists() else complete
    if state.get("key") == key and _fits(state, file, len(stamps)):
        before = read_json(folder / "stamps.json") if (folder / "stamps.json").exists() else stamps
        if not isinstance(before, list) or len(before) != len(stamps):
            before = [None] * len(stamps)
        replaced = {row: "replaced" for row in range(state["done"]) if before[row] != stamps[row]}
        return file, state["done"], {int(row): why for row, why in state["corrupt"].items()} | replaced
    for old in (partial, complete, folder / "index.json"):
        old.unlink(missing_ok=True)
    return partial, 0, {}
