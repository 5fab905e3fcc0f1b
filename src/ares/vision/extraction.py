"""Image features are extracted once, by a frozen encoder, into a folder that `FeatureStore` reads."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from ares.store import hash_of, read_json, sha256_file, write_json
from ares.types import AresError
from ares.vision.encoders import Encoder
from ares.vision.features import release

_SHOWN = 10  # images named in one message


def extract_features(
    images: Mapping[str, Path],
    encoder: Encoder,
    folder: Path | str,
    *,
    batch_size: int = 32,
    workers: int = 0,
    on_corrupt: str = "refuse",
    progress: bool = True,
) -> None:
    """Writes `features.npy` and `index.json` of the images of problems (pid to path) into a folder.

    Problems that share an image file share a row. Killed, it goes on where it was: rows are written to
    `features.partial.npy` and counted in `progress.json`. Images that cannot be read do not stop it; at the end
    they are refused by an AresError that lists them (repaired, only they are encoded again) or, with
    `on_corrupt="skip"`, listed in the index and treated as absent. `workers` processes read files.
    """
    if on_corrupt not in ("refuse", "skip"):
        raise AresError(f"features.on_corrupt={on_corrupt}: choose from refuse, skip.")
    folder = Path(folder)
    missing = {pid: "there is no such file" for pid, path in images.items() if not Path(path).is_file()}
    if missing and on_corrupt == "refuse":
        raise AresError(_missing(missing, images))
    present = {pid: Path(path) for pid, path in images.items() if pid not in missing}
    paths = list(dict.fromkeys(present.values()))
    shape, fingerprint = encoder.shape, encoder.fingerprint()
    corrupt = _write_rows(paths, encoder, shape, fingerprint, folder, batch_size, workers, progress)
    if corrupt and on_corrupt == "refuse":
        shown = "\n".join(list(corrupt.values())[:_SHOWN])
        raise AresError(
            f"{len(corrupt)} of {len(paths)} images cannot be read; replace them and run the command again, which encodes "
            f"only them, or do without them: features.on_corrupt=skip.\n{shown}"
        )
    row_of = {path: row for row, path in enumerate(paths)}
    rows = {pid: row_of[path] for pid, path in present.items() if row_of[path] not in corrupt}
    skipped = missing | {pid: corrupt[row_of[path]] for pid, path in present.items() if pid not in rows}
    finish(folder, rows, (shape[0], shape[1]), encoder.repeat, fingerprint, skipped)


def finish(
    folder: Path,
    rows: Mapping[str, int],
    shape: tuple[int, int],
    repeat: int,
    fingerprint: Mapping[str, Any],
    skipped: Mapping[str, str],
) -> None:
    """Gives a complete `features.partial.npy` its name and writes the index, last; leaves nothing else behind."""
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
    # One hash for rows, encoder and numbers: what depends on the features depends on all three.
    write_json(folder / "index.json", {"sha256": hash_of(index), **index})
    (folder / "progress.json").unlink(missing_ok=True)


def _missing(missing: Mapping[str, str], images: Mapping[str, Path]) -> str:
    pid = next(iter(missing))
    others = f" and {len(missing) - 1} more problems have none" if len(missing) > 1 else ""
    return (
        f"Problem {pid} has no image in {images[pid]}{others}; put the images there (data.root), do without those: "
        "features.on_corrupt=skip, or without any: features=none."
    )


def _write_rows(
    paths: Sequence[Path],
    encoder: Encoder,
    shape: tuple[int, int],
    fingerprint: Mapping[str, Any],
    folder: Path,
    batch_size: int,
    workers: int,
    progress: bool,
) -> dict[int, str]:
    """Encodes what is not yet encoded; returns why rows could not be."""
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    key = hash_of([[str(path) for path in paths], fingerprint, list(shape)])
    file, done, corrupt = _resumed(folder, key)
    mode = (
        {"mode": "r+"}
        if file.exists()
        else {"mode": "w+", "dtype": np.float32, "shape": (len(paths), *shape)}
    )
    features = open_memmap(file, **mode)  # type: ignore[arg-type]
    todo = [*sorted(corrupt), *range(done, len(paths))]
    bar = tqdm(
        total=len(paths),
        initial=len(paths) - len(todo),
        desc="image features",
        unit="image",
        disable=not progress,
    )
    for rows, batch in _batches([paths[row] for row in todo], todo, encoder, batch_size, workers):
        good = [
            (row, image) for row, image in zip(rows, batch, strict=True) if not isinstance(image, _Corrupt)
        ]
        if good:
            features[[row for row, _ in good]] = encoder.encode([image for _, image in good])
        corrupt = {row: reason for row, reason in corrupt.items() if row not in rows}
        corrupt |= {
            row: image.reason for row, image in zip(rows, batch, strict=True) if isinstance(image, _Corrupt)
        }
        done = max(done, rows[-1] + 1)
        features.flush()
        release(features)
        write_json(folder / "progress.json", {"key": key, "done": done, "corrupt": corrupt})
        bar.update(len(rows))
    bar.close()
    return corrupt


def _resumed(folder: Path, key: str) -> tuple[Path, int, dict[int, str]]:
    """The file to write to, how many rows of it are done, and which of these are corrupt."""
    partial, whole = folder / "features.partial.npy", folder / "features.npy"
    state = read_json(folder / "progress.json") if (folder / "progress.json").exists() else {}
    file = partial if partial.exists() else whole
    if state.get("key") == key and file.exists():
        return file, state["done"], {int(row): reason for row, reason in state["corrupt"].items()}
    for old in (partial, whole, folder / "index.json"):
        old.unlink(missing_ok=True)
    return partial, 0, {}


class _Corrupt:
    """Stands for an image that could not be read."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class _Files:
    """A torch data set of image files as an encoder reads them."""

    def __init__(self, paths: Sequence[Path], encoder: Encoder) -> None:
        self.paths, self.encoder = paths, encoder

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.encoder.read(self.paths[index])
        except AresError as error:
            return _Corrupt(str(error))


def _batches(
    paths: Sequence[Path], rows: Sequence[int], encoder: Encoder, batch_size: int, workers: int
) -> Iterator[tuple[list[int], list[Any]]]:
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        _Files(paths, encoder),  # type: ignore[arg-type]
        batch_size=batch_size,
        num_workers=min(workers, len(paths)),
        collate_fn=list,
    )
    start = 0
    for batch in loader:
        yield list(rows[start : start + len(batch)]), batch
        start += len(batch)
