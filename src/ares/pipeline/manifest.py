"""The manifest of a run: the inputs, outputs and metrics of each finished step."""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ares.storage.files import hash_of, read_json, read_object, sha256_path, write_json
from ares.types import AresError

FORMAT = 2  # raised when older run folders can no longer be read
_PACKAGES = ("ares", "torch", "transformers", "pytorch-lightning", "peft", "tokenizers", "numpy")


@dataclass(frozen=True)
class Artefact:
    """A file or folder: its path (relative inside the run folder), the sha256 of its contents, and an output's stamp."""

    path: str
    sha256: str
    stamp: str = ""


@dataclass(frozen=True)
class StepEntry:
    """One finished step. `shared` is the folder of a step that the jobs of a sweep share."""

    hash: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Artefact]
    outputs: Mapping[str, Artefact]
    versions: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    usd: float = 0.0
    requests: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    shared: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "StepEntry":
        """The inverse of `to_json`. Raises KeyError or TypeError for any other value."""
        artefacts = {
            side: {name: Artefact(**item) for name, item in value[side].items()}
            for side in ("inputs", "outputs")
        }
        found = cls(**{**value, **artefacts})
        outputs = [*found.inputs.values(), *found.outputs.values()]
        texts = [found.hash, *(text for a in outputs for text in (a.path, a.sha256, a.stamp))]
        mappings = (found.settings, found.metrics, found.versions)
        if not all(isinstance(t, str) for t in texts) or not all(isinstance(m, Mapping) for m in mappings):
            raise TypeError("a value of another kind")
        return found

    def to_json(self) -> dict[str, Any]:
        """The entry as JSON values, without empty stamps and an absent shared folder."""
        absent = (("stamp", ""), ("shared", None))
        return asdict(self, dict_factory=lambda items: {k: v for k, v in items if (k, v) not in absent})


def read_manifest(root: Path) -> dict[str, StepEntry]:
    """The run's finished steps by key, in the order in which they ended.

    Raises AresError for a manifest of another version.
    """
    path = root / "manifest.json"
    if not path.exists():
        return {}
    value = read_json(path)
    try:
        if value["format"] == FORMAT:
            return {key: StepEntry.from_json(entry) for key, entry in value["steps"].items()}
    except (KeyError, TypeError, AttributeError):
        pass
    raise AresError(f"{path} was made by another version of ares; use another run=<name>, or that version.")


def read_entry(path: Path) -> StepEntry:
    """The entry of a step that the jobs of a sweep share. Raises AresError for a file that holds none."""
    try:
        return StepEntry.from_json(read_object(path))
    except (KeyError, TypeError, AttributeError):
        raise AresError(
            f"{path} is not the entry of a step; remove its folder and run the command again."
        ) from None


def write_entry(root: Path, key: str, entry: StepEntry) -> None:
    """Adds or replaces a step's entry."""
    _write(root, {**read_manifest(root), key: entry})


def drop_entry(root: Path, key: str) -> None:
    """Removes a step's entry before its outputs are replaced, so that a killed step does not count as finished."""
    steps = read_manifest(root)
    if steps.pop(key, None):
        _write(root, steps)


def _write(root: Path, steps: Mapping[str, StepEntry]) -> None:
    entries = {key: entry.to_json() for key, entry in steps.items()}
    write_json(root / "manifest.json", {"format": FORMAT, "run": root.name, "steps": entries})


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def artefact_at(path: Path, root: Path) -> Artefact:
    """An output of a step, with hash and stamp; its path is relative only inside the run folder."""
    place = os.path.relpath(path, root) if path.is_relative_to(root) else str(path)
    return Artefact(place, sha256_path(path), stamp_of(path))


def stamp_of(path: Path) -> str:
    """A hash of the names, sizes and times of a file or a folder's files; an equal stamp means equal contents."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    seen = [(p, p.stat()) for p in files if not p.name.startswith(".")]
    return hash_of([[str(p.relative_to(path)), stat.st_size, stat.st_mtime_ns] for p, stat in seen])


def is_complete(root: Path, entry: StepEntry) -> bool:
    """Whether all outputs of a step still exist."""
    return all((root / output.path).exists() for output in entry.outputs.values())


def is_unaltered(root: Path, output: Artefact) -> bool:
    """Whether an existing output is as its step wrote it; contents are read only if the stamp differs."""
    path = root / output.path
    return stamp_of(path) == output.stamp or sha256_path(path) == output.sha256
