"""Checkpoint files that a kill, a full disk or a damaged block cannot make useless.

A checkpoint is written next to its target, read back, and moved into place; the one that it replaces is kept. torch
writes a zip with a checksum of each record, so reading one back needs no further file.
"""

import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from ares.ranks import gather, is_first
from ares.storage.files import atomic_path, remove, remove_leftovers
from ares.types import AresError

LAST, BEST = "last.ckpt", "best.ckpt"


def previous(path: Path) -> Path:
    """Where the checkpoint that `path` replaced is kept."""
    return path.with_suffix(".previous" + path.suffix)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint that is complete or absent; that of the latest state leaves its predecessor in place."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a file and reads it back before it replaces `path`. Raises AresError where that fails."""
        path = Path(path)
        try:
            with atomic_path(path) as staged:
                _write(checkpoint, staged)
                if not is_readable(staged):
                    raise OSError("it could not be read back")
                if path.name == LAST and path.exists():
                    path.replace(previous(path))
        except OSError as error:
            raise AresError(
                f"The checkpoint {path} cannot be written ({error.strerror or error}); free or repair the disk and run "
                "the same command again, which continues from the checkpoint before."
            ) from error


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(
            error.__context__, OSError
        ):  # after a failed write torch complains that its file is too short
            raise error.__context__ from None
        raise


def is_readable(path: Path) -> bool:
    """Whether a checkpoint is complete and every record has its checksum; of a sharded one, whether it was finished."""
    if path.is_dir():
        return (path / "meta.pt").is_file()
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip() is not None:
                return False
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception:  # damage shows in as many ways as the format has parts
        return False
    return True


def checkpoint_to_resume(folder: Path) -> Path | None:
    """The latest readable checkpoint in a folder, as `folder`/last.ckpt, or None where the fit starts afresh.

    Warns where it is not the latest one that was written; removes what killed processes left. Every rank must call it.
    """
    return gather(_repaired(folder) if is_first() else None)[0]


def _repaired(folder: Path) -> Path | None:
    last, best = folder / LAST, folder / BEST
    remove_leftovers(folder)
    found = [path for path in (last, previous(last)) if path.exists()]
    usable = next((path for path in found if is_readable(path)), None)
    if usable is None or (best.exists() and not is_readable(best)):
        if found:
            _warn(f"no checkpoint in {folder} can be read; the fit starts from its beginning.")
        for path in (*found, best):
            remove(path)
        return None
    if usable != last:
        if last.exists():
            _warn(f"{last} cannot be read; the fit continues from the checkpoint before it.")
        usable.replace(last)
    return last


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
