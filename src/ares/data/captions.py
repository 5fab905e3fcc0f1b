"""Captions of images by problem, in the shapes in which they are published."""

from pathlib import Path
from typing import Any

from ares.data.checks import kind, read_mapping
from ares.types import AresError


def read_captions(path: Path | str, *, optional: bool = False) -> dict[str, str]:
    """Captions by pid from `{"captions": {...}}` or a plain mapping; a list of captions is joined by spaces.

    Without the file: {} if it is `optional`, else AresError. Raises AresError where a caption is not text.
    """
    path = Path(path)
    if optional and not path.exists():
        return {}
    content = read_mapping(path, "problem ids to captions")
    found = content.get("captions", content)
    if not isinstance(found, dict):
        raise AresError(f'{path}: "captions" is {kind(found)}; it must map problem ids to captions.')
    return {pid: _caption(path, pid, value) for pid, value in found.items()}


def _caption(path: Path, pid: str, value: Any) -> str:
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in parts):
        raise AresError(f"{path}: the caption of problem {pid} is {kind(value)}; make it text.")
    return " ".join(parts)
