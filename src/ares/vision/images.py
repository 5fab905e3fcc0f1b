"""Reading image files."""

from pathlib import Path

from PIL import Image, ImageOps

from ares.types import AresError


def open_image(path: Path, size: int | None = None) -> Image.Image:
    """An image file as RGB, upright, transparent parts white, resized to `size` × `size` pixels (bicubic) unless None.

    Only the first frame is read. Raises AresError for a file that is not a readable image.
    """
    try:
        with Image.open(path) as file:
            image = _to_rgb(ImageOps.exif_transpose(file))
    except Exception as error:  # a damaged file fails in as many ways as there are formats
        raise AresError(f"{path} is not a readable image ({error}); replace the file.") from error
    return image if size is None else image.resize((size, size), Image.Resampling.BICUBIC)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its gray values are fractions of an unknown range")
    if image.mode.startswith("I"):  # 16-bit gray values, which Pillow would clip at 255
        image = image.convert("I").point(lambda gray: gray * (1 / 257)).convert("L")
    if image.has_transparency_data:
        # Drawings with a transparent background are meant for a white page.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
