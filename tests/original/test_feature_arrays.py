"""Published feature arrays are memory-mapped, copied in blocks, and never unpickled."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from ares.original.feature_arrays import import_features
from ares.types import AresError
from ares.vision.features import FeatureStore

MAP = {"1": "0", "7": "2", "12": 1}


@pytest.fixture
def name_map(tmp_path):
    path = tmp_path / "name_map.json"
    path.write_text(json.dumps(MAP))
    return path


def values(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("vit.pth", (3, 145, 16)),
        ("detr.npy", (3, 100, 16)),
        ("clip.npy", (3, 49, 16)),
        ("vit4.pth", (3, 1, 5, 16)),
    ],
)
def test_published_array_is_looked_up_by_the_name_map(tmp_path, name_map, name, shape):
    array = values(*shape)
    path = tmp_path / name
    torch.save(torch.from_numpy(array), path) if name.endswith("pth") else np.save(path, array)
    import_features(path, name_map, tmp_path / "features")
    store = FeatureStore(tmp_path / "features")
    assert store.shape == shape[-2:]
    expected = array.reshape(3, *shape[-2:])
    assert np.array_equal(store.get(["12", "1", "7", "none"])[:3], expected[[1, 0, 2]])
    assert (store.get(["none"]) == 0).all()
    assert sorted(p.name for p in (tmp_path / "features").iterdir()) == ["features.npy", "index.json"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_become_float32(tmp_path, name_map, dtype):
    tensor = torch.from_numpy(values(3, 4, 5)).to(dtype)
    torch.save(tensor, tmp_path / "vit.pth")
    import_features(tmp_path / "vit.pth", name_map, tmp_path / "features")
    assert np.array_equal(FeatureStore(tmp_path / "features").get(["7"])[0], tensor[2].float().numpy())


def test_resnet_vectors_are_repeated(tmp_path, name_map):
    array = values(3, 6)
    np.save(tmp_path / "resnet.npy", array)
    import_features(tmp_path / "resnet.npy", name_map, tmp_path / "features", repeat=512)
    store = FeatureStore(tmp_path / "features")
    assert store.shape == (512, 6)
    # As the original shows it: np.expand_dims(array, 1).repeat(512, axis=1).
    assert np.array_equal(store.get(["12", "1"]), np.expand_dims(array, 1).repeat(512, axis=1)[[1, 0]])


def test_arbitrary_objects_are_not_unpickled(tmp_path, name_map):
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    np.save(tmp_path / "evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "old.npy").write_bytes(pickle.dumps(Evil()))
    for name, message in (
        ("evil.pth", "more than tensors"),
        ("evil.npy", "not a plain array"),
        ("old.pth", "old format"),
        ("old.npy", "not a plain array"),
    ):
        with pytest.raises(AresError, match=message):
            import_features(tmp_path / name, name_map, tmp_path / "features")
    assert not marker.exists()


def test_array_that_does_not_fit_the_map_is_refused(tmp_path, name_map):
    np.save(tmp_path / "detr.npy", values(2, 4, 5))
    with pytest.raises(AresError, match=r"gives problem 7 row 2.*rows 0 to 1"):
        import_features(tmp_path / "detr.npy", name_map, tmp_path / "features")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(AresError, match="holds list, not one tensor"):
        import_features(tmp_path / "list.pth", name_map, tmp_path / "features")
    with pytest.raises(AresError, match="is not a file"):
        import_features(tmp_path / "none.npy", name_map, tmp_path / "features")


def test_file_that_is_not_a_numeric_array_is_refused(tmp_path, name_map):
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "valid.npy", values(3, 4, 5))
    (tmp_path / "torn.npy").write_bytes((tmp_path / "valid.npy").read_bytes()[:200])
    np.save(tmp_path / "text.npy", np.array([["a", "b"]] * 3))
    with (tmp_path / "several.npy").open("wb") as file:
        np.savez(file, a=values(3, 4, 5))
    for name in ("empty", "torn", "text", "several"):
        with pytest.raises(AresError, match=rf"{name}\.npy is not a plain array of numbers"):
            import_features(tmp_path / f"{name}.npy", name_map, tmp_path / "features")


MEASURE = """
import resource, sys
from pathlib import Path
from ares.original import feature_arrays as published
import torch
def held(kind):  # in MiB
    return int(next(l for l in open("/proc/self/status") if l.startswith(kind)).split()[1]) / 1024
kinds, found, release = ("RssAnon", "RssFile"), [], published.release
def measured(array):
    release(array)
    found.append([held(kind) for kind in kinds])
published.release = measured
before = [held(kind) for kind in kinds]
published.import_features(sys.argv[1], sys.argv[2], sys.argv[3])
print(*(max(column) - start for column, start in zip(zip(*found), before)))
"""


@pytest.mark.parametrize("name", ["vit.pth", "detr.npy"])
def test_import_does_not_load_the_full_array(tmp_path, name):
    array = np.zeros((2000, 20, 512), dtype=np.float32)  # 78 MiB
    path = tmp_path / name
    torch.save(torch.from_numpy(array), path) if name.endswith("pth") else np.save(path, array)
    (tmp_path / "map.json").write_text(json.dumps({str(row): row for row in range(2000)}))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path, tmp_path / "map.json", tmp_path / "features"],
        capture_output=True,
        text=True,
        check=True,
    )
    anonymous, mapped = map(float, done.stdout.split())
    assert anonymous < 25
    # The pages of a torch file stay mapped; the kernel reclaims them when needed.
    assert mapped < (120 if name.endswith("pth") else 25)
