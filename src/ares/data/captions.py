"""Captions of images by problem, in the shapes in which they are published."""

from collections.abc import Container
from pathlib import Path
from typing import Any

from ares.data.checks import HALF, has_half_character, kind, read_mapping
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


def captions_of(pids: Container[str], root: Path, captions: Path | str | None) -> dict[str, str]:
    """`read_captions` of `captions`, or of `captions.json` in `root` if there is one, for the problems of a data set.

    Raises AresError where captions are there, and none of them is of these problems.
    """
    path = captions if captions else root / "captions.json"
    found = read_captions(path, optional=not captions)
    if found and not any(pid in pids for pid in found):
        raise AresError(
            f"{path} has captions of {next(iter(found))}, ..., none of which is a problem of this data set; they belong to "
            "another, or to another copy of it with other ids."
        )
    return found


def _caption(path: Path, pid: str, value: Any) -> str:
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in parts):
        raise AresError(f"{path}: the caption of problem {pid} is {kind(value)}; make it text.")
    if has_half_character(text := " ".join(parts)):
        raise AresError(f"{path}: the caption of problem {pid} {HALF}.")
    return text
