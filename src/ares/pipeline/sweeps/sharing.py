"""Steps that all jobs of a sweep share: they run once, under a lock, in a folder named by their hash."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from ares.pipeline.manifest import StepEntry, is_complete, read_entry
from ares.storage.files import write_json


def run_once(folder: Path, key: str, execute: Callable[[], StepEntry]) -> StepEntry:
    """The step's entry from `folder`; if there is none, runs `execute` and writes its entry there, while others wait.

    The returned entry has no cost; the cost is in the folder's entry.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        path = folder / "entry.json"
        if not (path.exists() and is_complete(folder, read_entry(path))):
            write_json(path, execute().to_json())
        else:
            print(f"{key}: shared, {folder}")
        return replace(read_entry(path), usd=0.0, requests=0, shared=str(folder))
