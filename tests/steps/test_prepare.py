"""What prepare writes, and which changes make it write something again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ares.pipeline.plan import steps_of
from ares.pipeline.stale import Fingerprint, Run
from ares.steps.prepare import images_hash, prepare_alone, prepared, source_hash
from ares.storage.files import write_json
from ares.types import AresError
from ares.vision.features import FeatureStore
from tests.support import composed as support

TEXT = dict.fromkeys(
    ("hint", "task", "grade", "subject", "topic", "category", "skill", "lecture", "solution"), ""
)


def composed(runs: Path, *overrides: str):
    fixed = ("stage=prepare", "data=scienceqa", "features=patches")
    return support.composed(*fixed, *overrides, runs=runs)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """ScienceQA's hub copy: three problems, two of them with an image."""
    rows = []
    for number in range(3):
        picture = tmp_path / f"{number}.png"
        Image.new("RGB", (64, 64), (40 * number, 0, 0)).save(picture)
        image = {"bytes": picture.read_bytes(), "path": None} if number else None
        rows.append({**TEXT, "question": "?", "choices": ["a", "b"], "answer": 1, "image": image})
    (tmp_path / "hub").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hub/train-00000-of-00001.parquet")
    return tmp_path / "hub"


def test_prepare_fetches_data_and_extracts_features(hub: Path, tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    config = composed(runs, f"data.root={root}", f"data.hub={hub}")
    with pytest.raises(AresError, match=r"no data in .*stage=prepare data=scienceqa"):
        prepared(config, make=False)
    lines = prepare_alone(config)
    assert lines[0].startswith("problems: 3 (train 3, val 0, test 0), 2 images, 0 captions")
    assert lines[1].startswith("features: 16 x 784 of 2 problems")
    found = prepared(config, make=False)
    assert found["data"] == root
    assert (root / "images/train-1/image.png").is_file()
    assert FeatureStore(found["features"]).get(["train-1"]).any()
    # Existing data are never fetched again.
    prepare_alone(composed(runs, f"data.root={root}", "data.hub=/nowhere"))


def test_fetch_killed_between_its_two_files_resumes(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, value: object) -> None:
        if path.name == "problems.json":
            raise KeyboardInterrupt
        write_json(path, value)

    root, runs = tmp_path / "data", tmp_path / "runs"
    config = composed(runs, f"data.root={root}", f"data.hub={hub}", "features=none")
    with monkeypatch.context() as patched:
        patched.setattr("ares.data.hub.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_alone(config)
    assert (root / "pid_splits.json").is_file()
    assert prepare_alone(config)[0].startswith("problems: 3 (train 3, val 0, test 0)")


def test_new_captions_change_data_but_not_features(hub: Path, tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    config = composed(runs, f"data.root={root}", f"data.hub={hub}")
    prepare_alone(config)
    before, features = source_hash(config), prepared(config, make=False)["features"]
    (root / "captions.json").write_text(json.dumps({"captions": {"train-1": "Black."}}))
    assert source_hash(config) != before
    assert prepared(config, make=False)["features"] == features
    other = composed(runs, f"data.root={root}", "features.patch_size=32")
    with pytest.raises(AresError, match="not extracted yet"):
        prepared(other, make=False)


def test_changed_texts_keep_features(hub: Path, tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    config = composed(runs, f"data.root={root}", f"data.hub={hub}")
    prepare_alone(config)
    features = prepared(config, make=False)["features"]
    problems = json.loads((root / "problems.json").read_text())
    problems["train-1"]["question"] = "Which is colder?"
    (root / "problems.json").write_text(json.dumps(problems))
    assert prepared(config, make=False)["features"] == features
    # Another problem's image is another matter, and so is a data set in another place.
    problems["train-0"]["image"] = "../train-1/image.png"
    (root / "problems.json").write_text(json.dumps(problems))
    with pytest.raises(AresError, match="not extracted yet"):
        prepared(config, make=False)
    elsewhere = composed(runs, f"data.root={tmp_path / 'copy'}", f"data.hub={hub}")
    prepare_alone(elsewhere)
    assert prepared(elsewhere, make=False)["features"] != features
    assert features.is_dir()


def test_captions_written_by_captioner_are_read(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ares.vision.captions.Captioner.caption",
        lambda self, images: [f"{self.prompt} {image.getpixel((0, 0))[0]}" for image in images],
    )
    root, runs = tmp_path / "data", tmp_path / "runs"
    asked = ("data.captioner.model=somewhere/blip", "data.captioner.prompt=Red:", "data.captioner.workers=0")
    config = composed(runs, f"data.root={root}", f"data.hub={hub}", *asked)
    assert "2 captions" in prepare_alone(config)[0]
    content = json.loads((root / "captions.json").read_text())
    assert content["captions"] == {"train-1": "Red: 40", "train-2": "Red: 80"}
    assert (content["model"], content["prompt"]) == ("somewhere/blip", "Red:")
    named = composed(runs, f"data.root={root}", f"data.captions={tmp_path / 'mine.json'}", *asked)
    assert "2 captions" in prepare_alone(named)[0]
    assert (tmp_path / "mine.json").is_file()


def test_published_arrays_replace_extraction(hub: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(2, 100, 256)).astype(np.float32)
    np.save(tmp_path / "detr.npy", array)
    (tmp_path / "name_map.json").write_text(json.dumps({"train-1": "1", "train-2": "0"}))
    config = composed(
        tmp_path / "runs",
        f"data.root={tmp_path / 'data'}",
        f"data.hub={hub}",
        "features=detr",
        f"features.arrays={tmp_path / 'detr.npy'}",
    )
    assert "features: 100 x 256 of 2 problems" in prepare_alone(config)[1]
    store = FeatureStore(prepared(config, make=False)["features"])
    assert np.array_equal(store.get(["train-2", "train-1"]), array)


def test_published_files_without_matching_ids_are_refused(hub: Path, tmp_path: Path) -> None:
    """The hub's copy of ScienceQA has other ids; without this check nothing would be found, silently."""
    root, runs = tmp_path / "data", tmp_path / "runs"
    np.save(tmp_path / "detr.npy", np.zeros((2, 100, 256), dtype=np.float32))
    (tmp_path / "name_map.json").write_text(json.dumps({"1": "1", "2": "0"}))
    named = (f"data.root={root}", f"data.hub={hub}", "features=detr")
    config = composed(runs, *named, f"features.arrays={tmp_path / 'detr.npy'}")
    with pytest.raises(AresError, match="none of the 2 problems with an image, such as train-1"):
        prepare_alone(config)
    [folder] = (runs / "shared").glob("features-*")
    with pytest.raises(AresError, match="belong to another data set"):
        prepared(composed(runs, *named, f"features.path={folder}"), make=False)
    (tmp_path / "instruct_captions.json").write_text(json.dumps({"1": "A cat.", "2": "A dog."}))
    captioned = (*named[:2], "features=none", f"data.captions={tmp_path / 'instruct_captions.json'}")
    with pytest.raises(AresError, match=r"captions of 1, .*other ids"):
        prepare_alone(composed(runs, *captioned))


@pytest.mark.parametrize("named", ["features.arrays", "features.path"])
def test_images_without_imported_features_are_refused_unless_skipped(
    hub: Path, tmp_path: Path, named: str
) -> None:
    """Else the model would see zeros for them, without a word."""
    root, runs = tmp_path / "data", tmp_path / "runs"
    np.save(tmp_path / "detr.npy", np.ones((1, 100, 256), dtype=np.float32))
    (tmp_path / "name_map.json").write_text(json.dumps({"train-1": "0", "train-0": "0"}))
    settings = [f"data.root={root}", f"data.hub={hub}", "features=detr"]
    arrays = f"features.arrays={tmp_path / 'detr.npy'}"
    with pytest.raises(AresError, match=r"leave out 1 problems' images \(problem train-2: .*on_corrupt=skip"):
        prepare_alone(composed(runs, *settings, arrays))
    [folder] = (runs / "shared").glob("features-*")
    chosen = arrays if named == "features.arrays" else f"features.path={folder}"
    with pytest.raises(AresError, match="leave out 1 problems' images"):
        prepared(composed(runs, *settings, chosen), make=False)
    lines = prepare_alone(composed(runs, *settings, chosen, "features.on_corrupt=skip"))
    assert lines[2] == "skipped: problem train-2, its image has none"


def test_skipped_images_are_listed(hub: Path, tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    prepare_alone(composed(runs, f"data.root={root}", f"data.hub={hub}", "features=none"))
    (root / "images/train-2/image.png").write_bytes(b"broken")
    config = composed(runs, f"data.root={root}")
    with pytest.raises(AresError, match=r"1 of 2 images cannot be read.*: features\.on_corrupt=skip"):
        prepare_alone(config)
    lines = prepare_alone(composed(runs, f"data.root={root}", "features.on_corrupt=skip"))
    assert "features: 16 x 784 of 1 problems" in lines[1]
    assert lines[-1] == "without a solution, left out of fine-tuning: 3 problems"
    assert "skipped: problem train-2" in lines[2]


def test_changed_images_are_extracted_again(hub: Path, tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    config = composed(runs, f"data.root={root}", f"data.hub={hub}")
    prepare_alone(config)
    before = FeatureStore(prepared(config, make=False)["features"])
    before.get(["train-1"])
    Image.new("RGB", (80, 64), "white").save(root / "images/train-2/image.png")
    with pytest.raises(AresError, match="the images have changed since"):
        prepared(config, make=False)
    prepare_alone(config)
    after = FeatureStore(prepared(config, make=False)["features"])
    assert np.array_equal(after.get(["train-1"]), before.get(["train-1"]))
    assert np.allclose(after.get(["train-2"])[..., :768], 1.0)
    assert after.sha256 != before.sha256


def test_image_replaced_by_one_of_same_size_is_noticed(hub: Path, tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    config = composed(runs, f"data.root={root}", f"data.hub={hub}")
    prepare_alone(config)
    image = root / "images/train-2/image.png"
    size = image.stat().st_size
    Image.new("RGB", (64, 64), (200, 0, 0)).save(image)
    assert image.stat().st_size == size
    with pytest.raises(AresError, match="the images have changed since"):
        prepared(config, make=False)
    prepare_alone(config)
    found = FeatureStore(prepared(config, make=False)["features"]).get(["train-2"])
    assert found.reshape(-1, 784)[:, 0] == pytest.approx(200 / 127.5 - 1)


def test_incomplete_features_are_refused_unless_run_skips_images(hub: Path, tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    prepare_alone(composed(runs, f"data.root={root}", f"data.hub={hub}", "features=none"))
    whole = (root / "images/train-2/image.png").read_bytes()
    (root / "images/train-2/image.png").write_bytes(b"broken")
    prepare_alone(composed(runs, f"data.root={root}", "features.on_corrupt=skip"))
    config = composed(runs, f"data.root={root}")
    for make in (True, False):
        with pytest.raises(
            AresError,
            match=r"leave out 1 problems' images \(problem train-2: .*not a readable.*on_corrupt=skip",
        ):
            prepared(config, make=make)
    (root / "images/train-2/image.png").write_bytes(whole)
    assert "features: 16 x 784 of 2 problems" in prepare_alone(config)[1]


def test_changed_weights_change_features_folder(hub: Path, tmp_path: Path) -> None:
    import timm
    import torch

    root, runs, weights = tmp_path / "data", tmp_path / "runs", tmp_path / "weights.pth"
    asked = (
        "features=timm",
        "features.model=test_vit",
        f"features.checkpoint={weights}",
        "features.workers=0",
    )
    config = composed(runs, f"data.root={root}", f"data.hub={hub}", *asked)
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        torch.save(timm.create_model("test_vit", pretrained=False).state_dict(), weights)
        prepare_alone(config)
        found.append(FeatureStore(prepared(config, make=False)["features"]).get(["train-1"]))
    assert not np.allclose(*found)


def test_fingerprint_of_policy_that_reads_images_has_their_contents(hub: Path, tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    config = composed(runs, f"data.root={root}", f"data.hub={hub}", "stage=rationale", "strategy=single")
    source = prepared(replace(config, features=replace(config.features, _target_=None)), make=True)
    [step] = steps_of(config)

    def fingerprint(reads_images: bool) -> Fingerprint:
        asked = replace(config, model=replace(config.model, reads_images=reads_images))
        return Run(runs / "a", asked, [step], source).fingerprint(step)

    assert "images" not in fingerprint(False).inputs
    before = fingerprint(True)
    image = next(root.rglob("*.png"))
    image.touch()
    assert fingerprint(True).hash == before.hash
    Image.new("RGB", (64, 64), (0, 99, 0)).save(image)
    assert fingerprint(True).hash != before.hash
    assert fingerprint(False).inputs == {n: a for n, a in before.inputs.items() if n != "images"}


def test_hash_of_images_covers_all_of_a_problem(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
    row = {"pid": "1", "split": "train", "question": "?", "choices": ["a"], "images": ["0.png", "1.png"]}
    settings = ("data=custom", f"data.root={tmp_path / 'mine.jsonl'}", "features=none")
    hashes = []
    for images in (["0.png", "1.png"], ["0.png"], ["1.png", "0.png"], ["0.png", "2.png"]):
        (tmp_path / "mine.jsonl").write_text(json.dumps({**row, "images": images}))
        hashes.append(images_hash(composed(tmp_path / "runs", *settings), tmp_path / "mine.jsonl"))
    assert len(set(hashes)) == 4
