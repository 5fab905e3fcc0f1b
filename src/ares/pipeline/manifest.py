"""The manifest of a run: what each finished step was made from, and what it made."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ares.storage.files import hash_of, read_json, sha256_path, write_json

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


def drop_entry(root: Path, key: str) -> None:
    """Forgets a step, before its outputs are written anew: what a kill leaves is then nobody's."""
    manifest = read_manifest(root)
    if manifest["steps"].pop(key, None):
        write_json(root / "manifest.json", manifest)


def output_of(path: Path, root: Path) -> dict[str, str]:
    """An output as an entry keeps it: where it is, the hash of its contents and its stamp."""
    return {"path": recorded(path, root), "sha256": sha256_path(path), "stamp": stamp_of(path)}


def stamp_of(path: Path) -> str:
    """A hash of the names, sizes and times of a file or a folder's files: while it is the same, so are the contents."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    seen = [(p, p.stat()) for p in files if not p.name.startswith(".")]
    return hash_of([[str(p.relative_to(path)), stat.st_size, stat.st_mtime_ns] for p, stat in seen])


def is_whole(root: Path, entry: Mapping[str, Any]) -> bool:
    """Whether everything that a step made is still there."""
    return all((root / output["path"]).exists() for output in entry["outputs"].values())


def is_unaltered(root: Path, output: Mapping[str, str]) -> bool:
    """Whether an output that is there is as its step left it; contents are read only where the stamp differs."""
    path = root / output["path"]
    return stamp_of(path) == output.get("stamp") or sha256_path(path) == output["sha256"]


def recorded(path: Path, root: Path) -> str:
    """A path as the manifest keeps it: inside the run relative to it, elsewhere as it is."""
    return os.path.relpath(path, root) if path.is_relative_to(root) else str(path)
