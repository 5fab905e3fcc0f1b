"""Reading image files."""

from pathlib import Path

from PIL import Image, ImageOps

from ares.types import AresError


def open_image(path: Path, size: int | None = None) -> Image.Image:
    """An image file as RGB, upright, transparent parts white, resized to `size` pixels square if given (bicubic).

    Of several frames the first is read. Raises AresError for a file that is no readable image.
    """
    try:
        with Image.open(path) as file:
            image = _in_colour(ImageOps.exif_transpose(file))
    except Exception as error:  # a damaged file fails in as many ways as there are formats
        raise AresError(f"{path} is no readable image ({error}); replace the file.") from error
    return image if size is None else image.resize((size, size), Image.Resampling.BICUBIC)


def _in_colour(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its greys are fractions of an unknown range")
    if image.mode.startswith("I"):  # greys of 16 bits, which Pillow would cut off at 255
        image = image.convert("I").point(lambda grey: grey * (1 / 257)).convert("L")
    if image.has_transparency_data:
        # Drawings with a transparent background are meant for a white page.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
