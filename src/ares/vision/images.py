"""Reading image files."""

from pathlib import Path

from PIL import Image

from ares.types import AresError


def open_image(path: Path, size: int | None = None) -> Image.Image:
    """An image file as RGB, transparent parts white, resized to `size` pixels square if given (bicubic).

    Raises AresError for a file that is no readable image.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("RGBA")
    except Exception as error:  # a damaged file fails in as many ways as there are formats
        raise AresError(f"{path} is no readable image ({error}); replace the file.") from error
    # Drawings with a transparent background are meant for a white page.
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if size is None else image.resize((size, size), Image.Resampling.BICUBIC)
