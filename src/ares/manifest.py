"""The manifest of a run: what each finished step was made from, and what it made."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ares.store import read_json, write_json

_PACKAGES = ("ares", "torch", "transformers", "pytorch-lightning", "peft", "tokenizers", "numpy")


def read_manifest(root: Path) -> dict[str, Any]:
    """The run's manifest: `{"run": name, "steps": {key: entry}}`, empty before the first step has ended."""
    path = root / "manifest.json"
    return read_json(path) if path.exists() else {"run": root.name, "steps": {}}


def write_entry(root: Path, key: str, entry: Mapping[str, Any]) -> None:
    """Adds or replaces a step's entry."""
    manifest = read_manifest(root)
    manifest["steps"][key] = entry
    write_json(root / "manifest.json", manifest)


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def is_whole(root: Path, entry: Mapping[str, Any]) -> bool:
    """Whether everything that a step made is still there."""
    return all((root / output["path"]).exists() for output in entry["outputs"].values())


def recorded(path: Path, root: Path) -> str:
    """A path as the manifest keeps it: inside the run relative to it, elsewhere as it is."""
    return os.path.relpath(path, root) if path.is_relative_to(root) else str(path)
