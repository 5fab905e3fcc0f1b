"""Images for a page: each once, scaled down, as data addresses."""

import base64
import io
import json
from pathlib import Path

from ares.storage.files import sha256_file

SIDE = 320  # pixels of the longer side
_QUALITY, _SMALL = 78, 4096  # of WebP; bytes
_SHOWN = ("PNG", "JPEG", "GIF", "WEBP")  # what browsers show


class Images:
    """Data addresses by the hash of an image's file, which several problems may share."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.size = 0  # bytes of all addresses as entries of a JSON object
        self._known: dict[Path, str | None] = {}

    def add(self, path: Path) -> str | None:
        """The key of an image; None where it is absent or cannot be read."""
        if path not in self._known:
            key = sha256_file(path)[:12] if path.is_file() else None
            if key and key not in self.addresses:
                if address := data_uri(path):
                    self.addresses[key] = address
                    self.size += len(json.dumps({key: address}))
                else:
                    key = None
            self._known[path] = key
        return self._known[path]


def data_uri(path: Path) -> str | None:
    """An image file as a `data:` address of at most SIDE pixels; None where it is absent or cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            kind = image.format or ""
            small = image.convert("RGBA" if image.has_transparency_data else "RGB")
            small.thumbnail((SIDE, SIDE))
            file = io.BytesIO()
            small.save(file, "WEBP", quality=_QUALITY)
            data, original = file.getvalue(), path.read_bytes()
            # Drawings are sharper as they are, and hardly larger.
            if kind in _SHOWN and small.size == image.size and len(original) <= max(len(data), _SMALL):
                data = original
            else:
                kind = "WEBP"
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError):
        return None
    return f"data:{Image.MIME[kind]};base64,{base64.b64encode(data).decode('ascii')}"
