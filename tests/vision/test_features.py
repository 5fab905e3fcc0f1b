"""Encoders, extraction to a memory-mapped file, and looking up."""

import json
import multiprocessing
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from ares.storage.files import sha256_file
from ares.types import AresError
from ares.vision.encoders import PatchEncoder, TimmEncoder
from ares.vision.extraction import extract_features, finish
from ares.vision.features import FeatureStore

CONF = Path(__file__).resolve().parents[2] / "conf/features"
TINY = {"model": "test_vit", "pretrained": False}


def encoded(encoder, paths):
    return encoder.encode([encoder.read(path) for path in paths])


@pytest.fixture
def images(tmp_path):
    """Five images by pid; the last two problems have the same file."""
    random = np.random.default_rng(0)
    paths = {}
    for pid in "1234":
        pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        paths[pid] = tmp_path / "images" / f"{pid}.png"
        paths[pid].parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(paths[pid])
    return {**paths, "5": paths["4"]}


def test_patches_hold_pixels_and_position(images):
    encoder = PatchEncoder()
    found = encoded(encoder, [images["1"], images["2"]])
    assert encoder.shape == (16, 784)
    assert found.shape == (2, 16, 784)
    assert found.dtype == np.float32
    pixels = np.asarray(Image.open(images["2"])).astype(np.float32)
    for patch in range(16):
        row, column = divmod(patch, 4)
        block = pixels[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        assert np.allclose(found[1, patch, :768], block.reshape(-1) / 127.5 - 1, atol=1e-6)
        assert found[1, patch, 768:].tolist() == [16.0 * (i == patch) for i in range(16)]
    assert -1 <= found[..., :768].min() < -0.99
    assert 0.99 < found[..., :768].max() <= 1


def test_patches_of_any_size_and_mode(tmp_path):
    Image.new("L", (200, 50), 255).save(tmp_path / "grey.png")
    Image.new("RGBA", (10, 10), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    Image.new("P", (30, 30)).save(tmp_path / "palette.gif")
    encoder = PatchEncoder(patch_size=8, image_size=32)
    found = encoded(encoder, [tmp_path / name for name in ("grey.png", "clear.png", "palette.gif")])
    assert found.shape == (3, 16, 208)
    assert np.allclose(found[:2, :, :192], 1.0)
    assert np.allclose(found[2, :, :192], -1.0)


@pytest.mark.parametrize(
    ("kind", "place", "damage", "reason"),
    [
        ("PNG", 11, b"\0", "Truncated IHDR"),  # a ValueError of PIL's
        ("PNG", 36, b"\0", "broken PNG"),  # a SyntaxError: the length of the second chunk
        ("BMP", 20, b"\xff", "exceeds limit"),  # a DecompressionBombError: the width
        ("JPEG", 0, b"\0", "cannot identify"),
    ],
)
def test_damaged_image_is_refused(tmp_path, kind, place, damage, reason):
    file = tmp_path / "image"
    Image.new("RGB", (12, 12), "red").save(file, kind)
    data = file.read_bytes()
    file.write_bytes(data[:place] + damage + data[place + len(damage) :])
    with pytest.raises(AresError, match=rf"image is not a readable image \(.*{reason}.*replace the file"):
        PatchEncoder().read(file)


def test_patch_size_must_divide_the_image():
    with pytest.raises(AresError, match=r"image_size=60 .*patch_size=16"):
        PatchEncoder(image_size=60)


@pytest.mark.parametrize(
    ("model", "shape", "args"),
    [
        ("test_vit", (101, 64), {}),
        ("test_vit", (17, 64), {"img_size": 64}),
        ("test_vit", (1 + 2 * 4, 64), {"img_size": [32, 64]}),
        (
            "vit_tiny_patch16_224",
            (8, 192),
            {"img_size": [32, 64], "class_token": False, "global_pool": "avg"},
        ),
        ("vit_pwee_patch16_reg1_gap_256", (1 + 2 * 4, 256), {"img_size": [32, 64]}),
        ("swin_tiny_patch4_window7_224", (2 * 4, 768), {"img_size": [64, 128], "window_size": 2}),
        ("test_convnext", (25, 64), {}),
    ],
)
def test_timm_models_with_seeded_weights(images, model, shape, args):
    encoder = TimmEncoder(model, pretrained=False, seed=1, model_args=args)
    found = encoded(encoder, list(images.values())[:3])
    assert encoder.shape == shape
    assert found.shape == (3, *shape)
    assert found.dtype == np.float32
    again = TimmEncoder(model, pretrained=False, seed=1, model_args=args)
    assert np.array_equal(encoded(again, list(images.values())[:3]), found)
    assert again.fingerprint() == encoder.fingerprint()
    other = TimmEncoder(model, pretrained=False, seed=2, model_args=args)
    assert not np.allclose(encoded(other, [images["1"]]), found[:1])
    assert other.fingerprint() != encoder.fingerprint()
    json.dumps(encoder.fingerprint())


def test_timm_tokens_are_forward_features(images):
    import timm
    import torch

    encoder = TimmEncoder(**TINY)
    found = encoded(encoder, [images["1"]])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("test_vit", pretrained=False, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    with torch.no_grad():
        expected = network.forward_features(transform(Image.open(images["1"]))[None])
    assert np.allclose(found, expected.cpu().numpy(), atol=1e-5)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_timm_weights_from_a_file(images, tmp_path, ending):
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(9)
    network = timm.create_model("test_vit", pretrained=False)
    file = tmp_path / f"weights.{ending}"
    save_file(network.state_dict(), file) if ending == "safetensors" else torch.save(
        network.state_dict(), file
    )
    encoder = TimmEncoder("test_vit", checkpoint=file)
    assert torch.equal(encoder._loaded[0].patch_embed.proj.weight.cpu(), network.patch_embed.proj.weight)
    assert encoder.fingerprint()["checkpoint"] == sha256_file(file)


def test_timm_mistakes_are_refused(tmp_path):
    with pytest.raises(AresError, match=r"features\.checkpoint=.*is not a file"):
        TimmEncoder("test_vit", checkpoint=tmp_path / "none.pth").shape  # noqa: B018
    with pytest.raises(AresError, match=r"features\.model=vit_huge_typo"):
        TimmEncoder("vit_huge_typo", pretrained=False).shape  # noqa: B018
    with pytest.raises(
        AresError, match=r"features\.model=resnet10t.*unexpected keyword.*features\.model_args"
    ):
        TimmEncoder("resnet10t", pretrained=False, model_args={"img_size": 64}).shape  # noqa: B018
    with pytest.raises(AresError, match=r"features\.model=crossvit_tiny_240 gives several maps"):
        TimmEncoder("crossvit_tiny_240", pretrained=False).shape  # noqa: B018


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        # SigLIP 2 has no class token, DINOv3 one and four registers; a grid of 2 x 4 patches.
        ("vit_base_patch16_siglip_256.v2_webli", (8, 32)),
        ("vit_small_patch16_dinov3", (1 + 4 + 8, 32)),
    ],
)
def test_current_backbones_by_name(images, model, shape):
    small = {"img_size": [32, 64], "embed_dim": 32, "depth": 1, "num_heads": 2}
    encoder = TimmEncoder(model, pretrained=False, precision="32", model_args=small)
    assert encoder.shape == shape
    one, other = encoded(encoder, [images["1"], images["2"]])
    assert np.isfinite(one).all()
    assert not np.allclose(one, other)


def test_extracted_features_are_looked_up_by_problem(images, tmp_path):
    encoder, folder = PatchEncoder(), tmp_path / "features"
    extract_features(images, encoder, folder, batch_size=3)
    store = FeatureStore(folder)
    assert store.shape == (16, 784)
    assert store.encoder == encoder.fingerprint()
    found = store.get(["3", "none", "1", "5"])
    assert found.dtype == np.float32
    assert np.array_equal(found[[0, 2, 3]], encoded(encoder, [images["3"], images["1"], images["4"]]))
    assert (found[1] == 0).all()
    assert store.get([]).shape == (0, 16, 784)
    assert "3" in store
    assert "none" not in store
    # Two problems with one image use the same row, and only the two files remain.
    assert np.load(folder / "features.npy", mmap_mode="r").shape == (4, 16, 784)
    assert sorted(path.name for path in folder.iterdir()) == ["features.npy", "index.json"]
    assert json.loads((folder / "index.json").read_text())["features_sha256"] == sha256_file(
        folder / "features.npy"
    )


def test_results_do_not_alias_the_file(images, tmp_path):
    extract_features(images, PatchEncoder(), tmp_path)
    store = FeatureStore(tmp_path)
    store.get(["1"])[:] = 7
    assert not (store.get(["1"]) == 7).any()


def test_extraction_is_byte_for_byte_reproducible(images, tmp_path):
    for name, size in (("a", 1), ("b", 4)):
        extract_features(images, PatchEncoder(), tmp_path / name, batch_size=size)
    assert FeatureStore(tmp_path / "a").sha256 == FeatureStore(tmp_path / "b").sha256
    extract_features({**images, "6": images["1"]}, PatchEncoder(), tmp_path / "c")
    assert FeatureStore(tmp_path / "c").sha256 != FeatureStore(tmp_path / "a").sha256


def test_missing_image_error_states_problem_and_path(images, tmp_path):
    images["7"] = tmp_path / "gone.png"
    with pytest.raises(
        AresError,
        match=r"Problem 7 has no image in .*gone\.png.*: features\.on_corrupt=skip, .*features=none",
    ):
        extract_features(images, PatchEncoder(), tmp_path / "features")
    assert not (tmp_path / "features").exists()
    extract_features(images, PatchEncoder(), tmp_path / "features", on_corrupt="skip")
    store = FeatureStore(tmp_path / "features")
    assert list(store.skipped) == ["7"]
    assert "7" not in store
    assert (store.get(["7"]) == 0).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_listed_and_others_kept(images, tmp_path, workers):
    content = images["2"].read_bytes()
    images["1"].write_bytes(b"not an image")
    images["2"].write_bytes(content[: len(content) // 2])
    folder = tmp_path / "features"
    counting = Counting()
    with pytest.raises(
        AresError, match=r"2 of 4 images(.|\n)*1\.png is not a readable(.|\n)*2\.png is not a readable"
    ):
        extract_features(images, counting, folder, batch_size=2, workers=workers)
    with pytest.raises(AresError, match="no image features"):
        FeatureStore(folder)
    assert counting.encoded == 2
    # Repaired, only the repaired one is encoded; the other is skipped by option.
    images["2"].write_bytes(content)
    again = Counting()
    extract_features(images, again, folder, batch_size=2, workers=workers, on_corrupt="skip")
    store = FeatureStore(folder)
    assert again.encoded == 1
    assert list(store.skipped) == ["1"]
    assert "1.png is not a readable image" in store.skipped["1"]
    assert np.array_equal(store.get("1235")[1:], encoded(PatchEncoder(), [images[pid] for pid in "235"]))
    assert (store.get(["1"]) == 0).all()


class Counting(PatchEncoder):
    """Counts what it encodes; fails after `fail_after` images."""

    def __init__(self, fail_after=None):
        super().__init__()
        self.encoded, self.fail_after = 0, fail_after

    def encode(self, images):
        if self.fail_after is not None and self.encoded >= self.fail_after:
            raise KeyboardInterrupt
        self.encoded += len(images)
        return super().encode(images)


def test_interrupted_extraction_resumes(images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract_features(images, Counting(fail_after=2), tmp_path / "a", batch_size=1)
    assert not (tmp_path / "a" / "features.npy").exists()
    rest = Counting()
    extract_features(images, rest, tmp_path / "a", batch_size=1)
    assert rest.encoded == 2
    extract_features(images, PatchEncoder(), tmp_path / "b", batch_size=1)
    assert (tmp_path / "a/features.npy").read_bytes() == (tmp_path / "b/features.npy").read_bytes()
    assert FeatureStore(tmp_path / "a").sha256 == FeatureStore(tmp_path / "b").sha256


def test_image_replaced_before_resuming_is_encoded_again(images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract_features(images, Counting(fail_after=2), tmp_path / "a", batch_size=1)
    images["1"].write_bytes(images["3"].read_bytes())
    # Killed once more before it comes to it, it is still known to be another.
    with pytest.raises(KeyboardInterrupt):
        extract_features(images, Counting(fail_after=0), tmp_path / "a", batch_size=1)
    rest = Counting()
    extract_features(images, rest, tmp_path / "a", batch_size=1)
    assert rest.encoded == 3
    assert np.array_equal(*FeatureStore(tmp_path / "a").get(["1", "3"]))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["features.npy", "index.json"]


def test_extraction_killed_before_the_index_encodes_nothing_twice(images, tmp_path):
    extract_features(images, PatchEncoder(), tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        extract_features(images, Counting(fail_after=3), tmp_path / "b", batch_size=1)
    Path(tmp_path / "b/features.npy").write_bytes((tmp_path / "a/features.npy").read_bytes())
    (tmp_path / "b/features.partial.npy").unlink()
    state = json.loads((tmp_path / "b/progress.json").read_text())
    (tmp_path / "b/progress.json").write_text(json.dumps({**state, "done": 4}))
    rest = Counting()
    extract_features(images, rest, tmp_path / "b")
    assert rest.encoded == 0
    assert FeatureStore(tmp_path / "b").sha256 == FeatureStore(tmp_path / "a").sha256


def test_another_encoder_restarts_the_extraction(images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract_features(images, Counting(fail_after=2), tmp_path, batch_size=1)
    extract_features(images, PatchEncoder(patch_size=32), tmp_path)
    assert np.array_equal(
        FeatureStore(tmp_path).get(["1"]), encoded(PatchEncoder(patch_size=32), [images["1"]])
    )


def test_other_weights_restart_the_extraction(images, tmp_path):
    class Other(PatchEncoder):
        def encode(self, images):
            return -super().encode(images)

        def fingerprint(self):
            return {**super().fingerprint(), "encoder": "other"}

    with pytest.raises(KeyboardInterrupt):
        extract_features(images, Counting(fail_after=2), tmp_path, batch_size=1)
    extract_features(images, Other(), tmp_path)
    found = FeatureStore(tmp_path).get(list(images))
    assert np.array_equal(found, -encoded(PatchEncoder(), list(images.values())))


def mapped_bytes() -> int:
    """The pages of files that this process holds."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssFile:\s+(\d+)", status)[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts pages as Linux does")
def test_reading_all_features_does_not_keep_them_in_memory(tmp_path):
    rows, size = 64, 2**20
    features = np.ones((rows, 1, size // 4), dtype=np.float32)
    np.save(tmp_path / "features.partial.npy", features)
    (tmp_path / "features.partial.npy").rename(tmp_path / "features.npy")
    finish(tmp_path, {str(row): row for row in range(rows)}, (1, size // 4), 1, {}, {})
    store, before = FeatureStore(tmp_path), mapped_bytes()
    for row in range(rows):
        assert store.get([str(row)]).all()
    assert mapped_bytes() - before < rows * size / 4


def test_workers_give_the_same_features(images, tmp_path):
    encoder = TimmEncoder(**TINY, model_args={"img_size": 32})
    for workers in (0, 2):
        extract_features(images, encoder, tmp_path / str(workers), batch_size=2, workers=workers)
    assert FeatureStore(tmp_path / "0").sha256 == FeatureStore(tmp_path / "2").sha256


def test_bf16_features_are_close_with_another_fingerprint(images):
    exact, half = TimmEncoder(**TINY, precision="32"), TimmEncoder(**TINY, precision="bf16")
    paths = [images["1"], images["2"]]
    error = np.abs(encoded(half, paths) - encoded(exact, paths))
    assert 0 < error.max() < 0.1
    assert half.fingerprint() != exact.fingerprint()


def test_convolutional_maps_and_pooled_vectors_have_the_published_shapes(images, tmp_path):
    # Multimodal-CoT took CLIP's RN101, and gave DETR images of 224 pixels.
    named = OmegaConf.load(CONF / "clip.yaml").model
    assert named == "resnet101_clip.openai"
    clip = TimmEncoder(named.split(".")[0], pretrained=False, precision="32")
    assert clip.shape == (49, 2048)
    assert OmegaConf.load(CONF / "detr.yaml").image_size == 224
    resnet = TimmEncoder("resnet50", pretrained=False, pooled=True, repeat=512)
    extract_features({"1": images["1"]}, resnet, tmp_path)
    store = FeatureStore(tmp_path)
    assert store.shape == (512, 2048)
    assert np.load(tmp_path / "features.npy").shape == (1, 1, 2048)
    [found] = store.get(["1"])
    assert np.array_equal(found, np.repeat(encoded(resnet, [images["1"]])[0], 512, axis=0))
    grid = TimmEncoder("resnet50", pretrained=False, precision="32")
    assert np.allclose(found[0], encoded(grid, [images["1"]])[0].mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("model", ["test_convnext", "swin_tiny_patch4_window7_224"])
def test_convolutional_maps_are_read_row_by_row(images, model):
    import torch

    args = {"img_size": 64, "window_size": 2} if model.startswith("swin") else {}
    encoder = TimmEncoder(model, pretrained=False, precision="32", model_args=args)
    pixels = encoder.read(images["1"])
    with torch.inference_mode():
        grid = encoder._loaded[0].forward_features(pixels[None])[0].numpy()
    rows = np.moveaxis(grid, 0, -1) if model == "test_convnext" else grid
    [found] = encoder.encode([pixels])
    width = rows.shape[1]
    for patch, numbers in enumerate(found):
        assert np.array_equal(numbers, rows[patch // width, patch % width])
    assert not np.allclose(found[1], found[width])


def test_extraction_without_images(tmp_path):
    extract_features({}, PatchEncoder(), tmp_path)
    assert (FeatureStore(tmp_path).get(["1", "2"]) == 0).all()


def _sum(store, pid, queue):
    queue.put(float(store.get([pid]).sum()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_feature_store_survives_pickling_and_forking(images, tmp_path, method):
    extract_features(images, PatchEncoder(), tmp_path)
    store = FeatureStore(tmp_path)
    expected = float(store.get(["2"]).sum())
    payload = pickle.dumps(store)
    assert len(payload) < 2000
    assert float(pickle.loads(payload).get(["2"]).sum()) == expected
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=_sum, args=(store, "2", queue))
    process.start()
    assert queue.get(timeout=60) == expected
    process.join()


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flipped, "the contents of features.npy have changed"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-100]),
            "the contents of features.npy have changed",
        ),
        (lambda path: path.write_bytes(b""), "the contents of features.npy have changed"),
        (Path.unlink, "features.npy is missing"),
    ],
)
def test_damaged_features_are_refused(images, tmp_path, damage, reason):
    folder = tmp_path / "features"
    extract_features(images, PatchEncoder(), folder, batch_size=4, workers=0)
    FeatureStore(folder).get(["1"])
    damage(folder / "features.npy")
    with pytest.raises(AresError, match=reason):
        FeatureStore(folder).get(["1"])


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"shape": 3}', '{"shape": []}', "nan", ""])
def test_damaged_index_is_refused(images, tmp_path, text):
    folder = tmp_path / "features"
    extract_features(images, PatchEncoder(), folder, batch_size=4, workers=0)
    (folder / "index.json").write_text(text)
    with pytest.raises(AresError, match=r"index\.json"):
        FeatureStore(folder)
