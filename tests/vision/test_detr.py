"""DETR's queries as features, from seeded weights."""

import numpy as np
import pytest
from PIL import Image

from ares.types import AresError
from ares.vision.detr import DetrEncoder
from ares.vision.extraction import extract_features
from ares.vision.features import FeatureStore
from tests.support.detr import SMALL


@pytest.fixture
def encoder() -> DetrEncoder:
    return DetrEncoder(pretrained=False, image_size=64, seed=1, model_args=SMALL)


@pytest.fixture
def images(tmp_path):
    """Three pictures: wide, tall, and wide again."""
    random = np.random.default_rng(0)
    paths = {}
    for pid, size in {"1": (80, 120), "2": (90, 60), "3": (80, 120)}.items():
        paths[pid] = tmp_path / f"{pid}.png"
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(paths[pid])
    return paths


def test_detr_shape_and_independence_of_batches(encoder, images, tmp_path):
    assert encoder.shape == (100, 256)
    read = {pid: encoder.read(path) for pid, path in images.items()}
    assert {pid: tuple(pixels.shape) for pid, pixels in read.items()} == {
        "1": (3, 64, 96),
        "2": (3, 96, 64),
        "3": (3, 64, 96),
    }
    alone = np.concatenate([encoder.encode([pixels]) for pixels in read.values()])
    together = encoder.encode(list(read.values()))
    assert together.dtype == np.float32
    assert np.abs(together - alone).max() < 1e-4
    assert np.abs(alone[0] - alone[2]).max() > 1e-3
    extract_features(images, encoder, tmp_path / "features", batch_size=2)
    assert np.abs(FeatureStore(tmp_path / "features").get("123") - alone).max() < 1e-4


@pytest.mark.parametrize("size", [(400, 300), (200, 600), (640, 100)])
def test_detr_image_sizes_equal_the_original(tmp_path, size):
    from transformers import DetrImageProcessor

    Image.effect_noise(size, 50).save(tmp_path / "image.png")
    picture = Image.open(tmp_path / "image.png").convert("RGB")
    own = DetrImageProcessor(do_pad=False)(images=picture, return_tensors="pt")["pixel_values"][0]
    read = DetrEncoder(pretrained=False, image_size=800, model_args=SMALL).read(tmp_path / "image.png")
    assert np.array_equal(read, own)
    # Multimodal-CoT: the shorter side 224, no limit to the longer one.
    read = DetrEncoder(pretrained=False, image_size=224, model_args=SMALL).read(tmp_path / "image.png")
    longer = 224 * max(size) // min(size)
    assert sorted(read.shape[1:]) == ([224, longer] if longer <= 1333 else [208, 1333])


def test_detr_features_are_the_last_decoder_states(encoder, images):
    import torch
    from transformers import DetrConfig, DetrModel

    torch.manual_seed(1)
    network = DetrModel(DetrConfig(**SMALL)).eval()
    pixels = encoder.read(images["1"])
    with torch.no_grad():
        expected = network(pixel_values=pixels[None]).last_hidden_state
    assert np.abs(encoder.encode([pixels]) - expected.numpy()).max() < 1e-5


def test_detr_weights_load_from_a_folder(encoder, images, tmp_path):
    encoder._loaded[0].save_pretrained(tmp_path / "detr")
    again = DetrEncoder(str(tmp_path / "detr"), image_size=64)
    assert np.array_equal(
        again.encode([again.read(images["1"])]), encoder.encode([encoder.read(images["1"])])
    )
    assert again.fingerprint() != encoder.fingerprint()
    with pytest.raises(AresError, match=r"features\.model=.*cannot be loaded"):
        DetrEncoder(str(tmp_path / "nothing")).shape  # noqa: B018
