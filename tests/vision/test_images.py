"""Image files of all kinds, as RGB."""

import numpy as np
import pytest
from PIL import Image

from ares.types import AresError
from ares.vision.detr import DetrEncoder
from ares.vision.extraction import extract_features
from ares.vision.features import FeatureStore
from ares.vision.images import open_image
from tests.support.detr import SMALL

GRAYS = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA", "P", "I;16", "I", "1", "CMYK"])
def test_gray_values_of_every_image_mode(tmp_path, mode):
    file = tmp_path / f"image.{'tiff' if mode in ('I', 'CMYK') else 'png'}"
    deep = {"I;16": np.uint16, "I": np.int32}
    if mode in deep:  # 16 bits a pixel: Pillow's own conversion cuts them off at 255
        Image.fromarray(GRAYS.astype(deep[mode]) * 257).save(file)
    else:
        Image.fromarray(GRAYS).convert(mode).save(file)
    with Image.open(file) as image:
        assert image.mode == mode
    found = np.asarray(open_image(file)).astype(int)
    assert found.shape == (16, 16, 3)
    if mode == "1":
        assert set(found.flat) == {0, 255}
    else:
        assert np.abs(found - GRAYS[..., None]).max() <= 1


def test_transparent_parts_are_white(tmp_path):
    for mode in ("RGBA", "LA"):
        image = Image.new(mode, (2, 1), 0)
        image.putpixel((1, 0), (0, 0, 0, 255) if mode == "RGBA" else (0, 255))
        image.save(tmp_path / "image.png")
        assert np.asarray(open_image(tmp_path / "image.png"))[0].tolist() == [[255] * 3, [0] * 3]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([9, 9, 9, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "image.png", transparency=0)
    assert np.asarray(open_image(tmp_path / "image.png"))[0].tolist() == [[255] * 3, [0] * 3]


def test_photographs_are_rotated_upright(tmp_path):
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned: to be shown turned right by 90 degrees
    image.save(tmp_path / "image.jpg", exif=exif, quality=95)
    found = open_image(tmp_path / "image.jpg")
    assert found.size == (20, 40)
    assert found.getpixel((10, 5))[0] > 200
    assert found.getpixel((10, 35))[2] > 200


def test_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "image.gif").getpixel((4, 4)) == (255, 0, 0)


def test_gray_values_without_a_range_are_refused(tmp_path):
    Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)).save(tmp_path / "image.tiff")
    with pytest.raises(AresError, match="fractions of an unknown range"):
        open_image(tmp_path / "image.tiff")


@pytest.mark.parametrize("workers", [0, 1])
def test_image_that_an_encoder_rejects_is_listed_as_unreadable(tmp_path, workers):
    images = {"thin": tmp_path / "thin.png", "valid": tmp_path / "valid.png"}
    Image.new("RGB", (1, 3000)).save(images["thin"])
    Image.new("RGB", (30, 40)).save(images["valid"])
    encoder = DetrEncoder(pretrained=False, image_size=32, model_args=SMALL)
    settings = {"workers": workers}
    with pytest.raises(AresError, match=r"1 of 2 images(.|\n)*thin\.png cannot be prepared for the encoder"):
        extract_features(images, encoder, tmp_path / "features", **settings)
    extract_features(images, encoder, tmp_path / "features", on_corrupt="skip", **settings)
    assert list(FeatureStore(tmp_path / "features").skipped) == ["thin"]
