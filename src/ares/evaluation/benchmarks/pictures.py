"""Pictures of benchmark files as files: decoded from base64 or bytes, or found by name."""

import ast
import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ares.types import AresError

_COLUMN = re.compile(r"(?:decoded_)?image(?:_\d+|s|name|_path|_src)?")
_NAME = 64  # VLMEvalKit: a cell of at most so many characters is not a picture but the index of the row that has it
_KINDS = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


def is_picture(name: str, value: Any) -> bool:
    """Whether a column holds pictures; names of files count, too, but for `image_path`, which pairs questions."""
    if not _COLUMN.fullmatch(name) or name == "image_path" or not value:
        return False
    return isinstance(value, bytes | str | list) or (isinstance(value, dict) and value.keys() >= {"bytes"})


class Pictures:
    """Writes pictures into the folder `store`, by their contents, and finds named ones in `folder`."""

    def __init__(self, store: Path, folder: Path | None) -> None:
        self.store, self.folder = store, folder
        self.known: dict[str, tuple[Path, ...]] = {}  # those of earlier rows, by index

    def paths(self, value: Any, place: str) -> Iterator[Path]:
        """The files of a cell. Raises AresError for one that is no picture, or a name without a file."""
        if isinstance(value, str) and value.startswith("["):
            try:
                value = ast.literal_eval(value)
            except (SyntaxError, ValueError):
                raise AresError(f"{place}, its images are no list; fetch the file again.") from None
        if isinstance(value, list):
            for one in value:
                yield from self.paths(one, place)
        elif isinstance(value, dict):
            yield (
                self._written(value["bytes"], place)
                if value["bytes"]
                else self._named(str(value.get("path")), place)
            )
        elif isinstance(value, bytes):
            yield self._written(value, place)
        elif value in self.known:
            yield from self.known[value]
        elif len(value) > _NAME and not re.search(r"\.\w{3,4}$", value):
            yield self._written(_decoded(value, place), place)
        else:
            yield self._named(value, place)

    def _named(self, name: str, place: str) -> Path:
        candidates = [self.folder / part for part in (name, Path(name).name)] if self.folder else []
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            missing = f"{self.folder} has none of that name" if self.folder else "benchmark.images is not set"
            raise AresError(
                f"{place} needs the image {name}; {missing}: set benchmark.images=<the folder with the images>."
            )
        return found

    def _written(self, data: bytes, place: str) -> Path:
        suffix = next((suffix for start, suffix in _KINDS.items() if data.startswith(start)), None)
        if suffix is None:
            raise AresError(
                f"{place} has an image that is neither PNG nor JPEG, GIF, WebP or BMP; fetch the file again."
            )
        path = self.store / f"{hashlib.sha256(data).hexdigest()[:32]}{suffix}"
        if not path.exists():
            self.store.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_bytes(data)
            os.replace(temporary, path)
        return path


def _decoded(text: str, place: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AresError(f"{place} has an image that is no base64; fetch the file again.") from None
