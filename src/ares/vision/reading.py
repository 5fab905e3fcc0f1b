"""Reads image files in batches with worker processes; missing and unreadable ones are refused or skipped."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ares.types import AresError

_SHOWN = 10  # images listed in one message
NO_FILE = [0, 0]


@dataclass(frozen=True)
class Unreadable:
    """A placeholder for an image that could not be read."""

    reason: str


def read_batches(
    paths: Sequence[Path], read: Callable[[Path], Any], *, batch_size: int, workers: int
) -> Iterator[list[Any]]:
    """Yields batches of `read(path)` in order, with `Unreadable` for a file that cannot be read."""
    from torch.utils.data import DataLoader

    files: Any = list(paths)
    workers = min(workers, len(paths), os.cpu_count() or 1)
    # Files are read where a batch is put together, which is in the workers.
    yield from DataLoader(files, batch_size, num_workers=workers, collate_fn=partial(_read_all, read))


def _read_all(read: Callable[[Path], Any], paths: Sequence[Path]) -> list[Any]:
    found = []
    for path in paths:
        try:
            found.append(read(path))
        except AresError as error:
            found.append(Unreadable(str(error)))
        except Exception as error:  # the encoder's preprocessing fails on an unusual image
            reason = (str(error) or type(error).__name__).splitlines()[0]
            found.append(
                Unreadable(f"{path} cannot be prepared for the encoder ({reason}); replace the file.")
            )
    return found


def image_bar(label: str, *, done: int, total: int) -> Any:
    """A progress bar over images."""
    from tqdm import tqdm

    return tqdm(desc=label, initial=done, total=total, unit="image", dynamic_ncols=True)


def stamp(path: Path) -> list[int]:
    """Size in bytes and modification time in ns, which change when a file is replaced; `NO_FILE` if it is missing."""
    if not path.is_file():
        return NO_FILE
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def stamps(path: Path) -> list[list[Any]]:
    """Names and stamps of a file or of all files in a folder, which change when local weights are replaced."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [[file.name, *stamp(file)] for file in files]


def present_images(images: Mapping[str, Path], on_corrupt: str) -> tuple[dict[str, Path], dict[str, str]]:
    """The image files that exist, and why other problems have none, both by pid.

    Raises AresError for a missing file unless `on_corrupt="skip"`.
    """
    absent = {pid: "there is no such file" for pid, path in images.items() if not Path(path).is_file()}
    if absent and on_corrupt == "refuse":
        pid = next(iter(absent))
        others = f" and {len(absent) - 1} more problems have none" if len(absent) > 1 else ""
        raise AresError(
            f"Problem {pid} has no image in {images[pid]}{others}; put the images there, set their folder (data.root, "
            "COCO's: data.coco), skip those: on_corrupt=skip (features., data.captioner.), or use no images: "
            "features=none."
        )
    return {pid: Path(path) for pid, path in images.items() if pid not in absent}, absent


def unreadable_images(
    present: Mapping[str, Path], reasons: Mapping[Path, str], on_corrupt: str
) -> dict[str, str]:
    """Why images cannot be read, by pid; with `on_corrupt="refuse"` raises an AresError that lists them."""
    if reasons and on_corrupt == "refuse":
        raise AresError(
            f"{len(reasons)} of {len(set(present.values()))} images cannot be read; replace them and run the command "
            "again, which reads only those, or skip them: on_corrupt=skip (features., data.captioner.).\n"
            + "\n".join(list(reasons.values())[:_SHOWN])
        )
    return {pid: reasons[path] for pid, path in present.items() if path in reasons}
