"""Steps that all jobs of a sweep share: made once, under a lock, in a folder named by what they are made from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from ares.pipeline.manifest import is_whole
from ares.storage.files import read_json, write_json


def run_once(folder: Path, key: str, execute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The step's manifest entry: that in `folder`, else `execute`'s, which is kept there; others wait meanwhile.

    What the step cost is told once, in the folder's own entry; the one returned costs nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        path = folder / "entry.json"
        if path.exists() and is_whole(folder, read_json(path)):
            print(f"{key}: shared, {folder}")
        else:
            write_json(path, execute())
        return {**read_json(path), "usd": 0.0, "requests": 0, "shared": str(folder)}
