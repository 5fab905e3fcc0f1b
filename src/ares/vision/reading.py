"""Reads image files in batches with worker processes; missing and unreadable ones are refused or skipped."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ares.types import AresError

Key = TypeVar("Key")
_SHOWN = 10  # images listed in one message
NO_FILE = [0, 0]


def read_images(
    images: Mapping[Key, Path],
    read: Callable[[Path], Any],
    label: str,
    *,
    total: int,
    batch_size: int,
    workers: int,
) -> Iterator[tuple[dict[Key, Any], dict[Key, str]]]:
    """Reads images in batches, in order: by key what `read(path)` returned, and why other images cannot be read.

    The bar `label` shows the progress over `total` images, of which those that are not read here are done.
    """
    from torch.utils.data import DataLoader

    from ares.console import tqdm

    items: Any = list(images.items())
    workers = min(workers, len(items), os.cpu_count() or 1)
    # Files are read where a batch is put together, which is in the workers.
    batches = DataLoader(items, batch_size, num_workers=workers, collate_fn=partial(_read_all, read))
    done = total - len(items)
    with tqdm(desc=label, initial=done, total=total, unit="image", dynamic_ncols=True) as bar:
        for good, unreadable in batches:
            yield good, unreadable
            bar.update(len(good) + len(unreadable))


def _read_all(
    read: Callable[[Path], Any], items: Sequence[tuple[Key, Path]]
) -> tuple[dict[Key, Any], dict[Key, str]]:
    good, unreadable = {}, {}
    for key, path in items:
        try:
            good[key] = read(path)
        except AresError as error:
            unreadable[key] = str(error)
        except Exception as error:  # the encoder's preprocessing fails on an unusual image
            reason = (str(error) or type(error).__name__).splitlines()[0]
            unreadable[key] = f"{path} cannot be prepared for the encoder ({reason}); replace the file."
    return good, unreadable


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


def present_images(
    images: Mapping[str, Path], on_corrupt: str, block: str
) -> tuple[dict[str, Path], dict[str, str]]:
    """The image files that exist, and why other problems have none, both by pid.

    Raises AresError for a missing file unless `on_corrupt="skip"`, a setting of the `block`.
    """
    absent = {pid: "there is no such file" for pid, path in images.items() if not Path(path).is_file()}
    if absent and on_corrupt == "refuse":
        pid = next(iter(absent))
        others = f" and {len(absent) - 1} more problems have none" if len(absent) > 1 else ""
        raise AresError(
            f"Problem {pid} has no image in {images[pid]}{others}; put the images there, set their folder (data.root, "
            f"COCO's: data.coco), skip those: {block}.on_corrupt=skip, or use no images: features=none."
        )
    return {pid: Path(path) for pid, path in images.items() if pid not in absent}, absent


def unreadable_images(
    present: Mapping[str, Path], reasons: Mapping[Path, str], on_corrupt: str, block: str
) -> dict[str, str]:
    """Why images cannot be read, by pid; with `on_corrupt="refuse"`, a setting of the `block`, raises an AresError that lists them."""
    if reasons and on_corrupt == "refuse":
        raise AresError(
            f"{len(reasons)} of {len(set(present.values()))} images cannot be read; replace them and run the command "
            f"again, which reads only those, or skip them: {block}.on_corrupt=skip.\n"
            + "\n".join(list(reasons.values())[:_SHOWN])
        )
    return {pid: reasons[path] for pid, path in present.items() if path in reasons}
