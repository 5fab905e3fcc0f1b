"""Makes a prompt fit: large images become smaller, and a long context shorter, never options or cue."""

from collections.abc import Callable

from PIL import Image

from ares.text.prompts import fitted
from ares.types import AresError, Example


def shortened(example: Example, length: int, limit: int, text_length: Callable[[Example], int]) -> Example:
    """An example whose prompt has `length` tokens, its context so short that it has at most `limit`.

    `text_length` counts the tokens of a prompt without those that its images add. Raises AresError, with the problem, if
    the prompt is too long without any context.
    """
    of_images = length - text_length(example)
    found = fitted(example, lambda shorter: of_images + text_length(shorter) <= limit)
    if found is None:
        least = of_images + text_length(example.shorter(0)) if example.shorter else length
        raise AresError(
            f"The prompt of problem {example.pid} has {least} tokens even without its context, {len(example.images)} images "
            f"included, more than text.max_input_tokens={limit}; raise it, or set a lower model.max_pixels."
        )
    return found


def limited(image: Image.Image, max_pixels: int | None) -> Image.Image:
    """The image, made smaller in proportion if it has more than `max_pixels` pixels."""
    if max_pixels is None or image.width * image.height <= max_pixels:
        return image
    scale = (max_pixels / (image.width * image.height)) ** 0.5
    return image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
