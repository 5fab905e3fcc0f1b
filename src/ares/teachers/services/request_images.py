"""Images as they are sent to services: the file itself if it is within the limits, else scaled down, as PNG."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ares.teachers.messages import Unaskable
from ares.types import AresError

LONGEST_SIDE = 1568  # pixels; the service scales larger images down and bills this size
LARGEST_FILE = 3_500_000  # bytes; the limit is 5 MB in base64
MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}


@dataclass(frozen=True)
class RequestImage:
    """An image of a request; `sha256` is that of the bytes that are sent, sizes are in pixels."""

    path: Path
    sha256: str
    media_type: str
    width: int
    height: int

    @property
    def entry(self) -> dict[str, Any]:
        """What a payload says of it."""
        size = [self.width, self.height]
        return {"sha256": self.sha256, "media_type": self.media_type, "size": size}

    def base64(self) -> str:
        """The bytes that are sent, in base64."""
        return base64.b64encode(_encoded(self.path)[0]).decode()


def image_entries(images: Sequence[RequestImage]) -> dict[str, Any]:
    """A payload's `image`, None without one; several have `more_images`, so that one keeps the hash it always had."""
    entries = [image.entry for image in images]
    more = {"more_images": entries[1:]} if entries[1:] else {}
    return {"image": entries[0] if entries else None, **more}


def images_of(payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of all images of a payload, in order."""
    return [payload["image"], *payload.get("more_images", ())] if payload["image"] else []


@cache
def request_image(path: Path) -> RequestImage:
    """The image in a file; raises Unaskable if it cannot be read."""
    data, media_type, (width, height) = _encoded(path)
    return RequestImage(path, hashlib.sha256(data).hexdigest(), media_type, width, height)


@lru_cache(maxsize=64)  # a question's requests follow one another; all images would not fit into memory
def _encoded(path: Path) -> tuple[bytes, str, tuple[int, int]]:
    from PIL import Image, UnidentifiedImageError

    try:
        return _fitted(path)
    except UnidentifiedImageError:
        raise Unaskable(f"{path} is not an image; replace the file.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unaskable(f"{path} is not a readable image ({error}); replace the file.") from None
    except AresError as error:
        raise Unaskable(str(error)) from None


def _fitted(path: Path) -> tuple[bytes, str, tuple[int, int]]:
    from PIL import Image

    from ares.vision.images import open_image

    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as file:
        kind, size = file.format or "", file.size
    if kind in MEDIA_TYPES and max(size) <= LONGEST_SIDE and len(data) <= LARGEST_FILE:
        return data, MEDIA_TYPES[kind], size
    image = open_image(path)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    if buffer.tell() > LARGEST_FILE:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        return buffer.getvalue(), "image/jpeg", image.size
    return buffer.getvalue(), "image/png", image.size
