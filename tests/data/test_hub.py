"""The hub's copies, as local parquet folders with the hub's column names and image bytes."""

import io
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ares.data.aokvqa import read_aokvqa
from ares.data.hub import fetch_hub
from ares.data.scienceqa import read_scienceqa
from ares.types import SPLITS, AresError

SCIENCEQA = {
    "image": None,
    "question": "Which is colder?",
    "choices": ["ice", "steam"],
    "answer": 0,
    "hint": "",
    "task": "closed choice",
    "grade": "grade2",
    "subject": "natural science",
    "topic": "physics",
    "category": "Thermal energy",
    "skill": "Compare",
    "lecture": "Ice is frozen.",
    "solution": "Ice is cold.\nSteam is hot.",
}
AOKVQA = {
    "image": None,
    "question_id": "q1",
    "question": "What is it?",
    "choices": ["a", "b", "c", "d"],
    "correct_choice_idx": 2,
    "direct_answers": "['c', \"it's c\", 'cat']",
    "difficult_direct_answer": False,
    "rationales": ["One.", "Two.", "Three."],
}


def picture(kind: str, seed: int = 0) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind)
    return {"bytes": data.getvalue(), "path": "image"}


def write(folder: Path, *, features: bool, **splits: list[dict[str, Any]]) -> Path:
    """The layout of the hub: data/<split>-00000-of-00001-<hash>.parquet, with or without datasets' own metadata."""
    (folder / "data").mkdir(parents=True)
    for split, rows in splits.items():
        path = folder / "data" / f"{split}-00000-of-00001-0a1b2c.parquet"
        if features:
            table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
            table.to_parquet(str(path))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
    return folder


@pytest.mark.parametrize("features", [True, False])
def test_hub_copy_of_scienceqa_gives_the_published_problems(tmp_path: Path, features: bool) -> None:
    rows = [{**SCIENCEQA, "image": picture("PNG", n), "answer": n % 2} for n in range(3)]
    plain = {**SCIENCEQA, "question": "Without an image?"}
    source = write(
        tmp_path / "hub", features=features, train=[*rows, plain], validation=rows[:1], test=rows[1:2]
    )
    fetch_hub(str(source), tmp_path / "root")
    problems, splits = read_scienceqa(tmp_path / "root")
    assert splits == {
        "train": ["train-0", "train-1", "train-2", "train-3"],
        "val": ["val-0"],
        "test": ["test-0"],
    }
    for number, row in enumerate([*rows, plain]):
        problem = problems[f"train-{number}"]
        for name in SCIENCEQA.keys() - {"image", "choices"}:
            assert getattr(problem, name) == row[name]
        assert problem.choices == ("ice", "steam")
        if row["image"] is None:
            assert problem.image is None
        else:
            assert problem.image is not None
            assert problem.image.read_bytes() == row["image"]["bytes"]


def test_round_trip_of_published_problems_through_parquet(shared: Path, tmp_path: Path) -> None:
    """Real problems through parquet and back: equal but for their ids, captions and images."""
    published, splits = read_scienceqa(shared / "data/scienceqa")
    raw = json.loads((shared / "data/scienceqa/problems.json").read_text())
    names = SCIENCEQA.keys() - {"image"}
    rows = {
        hub: [{**{name: raw[pid][name] for name in names}, "image": None} for pid in splits[split]]
        for hub, split in (("train", "train"), ("validation", "val"), ("test", "test"))
    }
    fetch_hub(str(write(tmp_path / "hub", features=False, **rows)), tmp_path / "root")
    problems, found = read_scienceqa(tmp_path / "root")
    for split in SPLITS:
        for new, old in zip(found[split], splits[split], strict=True):
            for name in (*names, "split"):
                assert getattr(problems[new], name) == getattr(published[old], name)


@pytest.mark.parametrize("features", [True, False])
def test_hub_copy_of_aokvqa(tmp_path: Path, features: bool) -> None:
    train = [{**AOKVQA, "image": picture("JPEG")}]
    test = [
        {
            **AOKVQA,
            "question_id": "q2",
            "image": picture("PNG"),
            "correct_choice_idx": None,
            "direct_answers": None,
            "difficult_direct_answer": True,
            "rationales": [],
        }
    ]
    source = write(tmp_path / "hub", features=features, train=train, test=test)
    fetch_hub(str(source), tmp_path / "root")
    problems, splits = read_aokvqa(tmp_path / "root")
    assert splits == {"train": ["q1"], "val": [], "test": ["q2"]}
    assert problems["q1"].direct_answers == ("c", "it's c", "cat")
    assert (problems["q1"].difficult, problems["q2"].difficult) == (False, True)
    assert (problems["q1"].answer, problems["q1"].solution, len(problems["q1"].rationales)) == (2, "One.", 3)
    assert problems["q1"].image == tmp_path / "root/images/q1/image.jpg"
    assert problems["q1"].image.read_bytes() == train[0]["image"]["bytes"]
    assert (problems["q2"].answer, problems["q2"].direct_answers, problems["q2"].solution) == (None, (), "")


def test_second_fetch_writes_only_missing_images(tmp_path: Path) -> None:
    rows = [{**SCIENCEQA, "image": picture("PNG", n)} for n in range(2)]
    source, root = write(tmp_path / "hub", features=False, train=rows), tmp_path / "root"
    fetch_hub(str(source), root)
    kept, torn = (root / f"images/train-{n}/image.png" for n in range(2))
    before = kept.stat().st_mtime_ns
    torn.write_bytes(b"half")
    fetch_hub(str(source), root)
    assert kept.stat().st_mtime_ns == before
    assert torn.read_bytes() == rows[1]["image"]["bytes"]


def test_another_data_set_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "hub", features=False, train=[{"text": "x"}])
    with pytest.raises(AresError, match="neither ScienceQA nor A-OKVQA"):
        fetch_hub(str(source), tmp_path / "root")
    with pytest.raises(AresError, match=r"cannot be read.*data\.hub=<folder>"):
        fetch_hub("no/such-dataset", tmp_path / "root")


def test_nothing_is_written_without_rows_in_a_known_split(tmp_path: Path) -> None:
    root = tmp_path / "root"
    unknown = write(tmp_path / "unknown", features=False, extra=[SCIENCEQA])
    with pytest.raises(AresError, match="no rows in a split called train, validation, val, test"):
        fetch_hub(str(unknown), root)
    empty = write(tmp_path / "empty", features=False, train=[])
    with pytest.raises(AresError, match="no rows"):
        fetch_hub(str(empty), root)
    assert not root.exists()


def test_split_without_rows_next_to_others(tmp_path: Path) -> None:
    source = write(tmp_path / "hub", features=False, train=[SCIENCEQA], test=[])
    fetch_hub(str(source), tmp_path / "root")
    assert read_scienceqa(tmp_path / "root")[1] == {"train": ["train-0"], "val": [], "test": []}


def test_torn_files_and_answers_are_refused_in_one_sentence(tmp_path: Path) -> None:
    source = write(tmp_path / "hub", features=False, train=[AOKVQA])
    [file] = source.rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(AresError, match="cannot be read"):
        fetch_hub(str(source), tmp_path / "root")
    for number, answers in enumerate(("['c', ", "c", "3")):
        rows = [{**AOKVQA, "direct_answers": answers}]
        source = write(tmp_path / f"answers-{number}", features=False, train=rows)
        with pytest.raises(AresError, match=r'row 0 of train, field "direct_answers" must be a list'):
            fetch_hub(str(source), tmp_path / "root")


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        *(({"question_id": pid}, "question_id") for pid in ("a/b", "..", ".", "", "q0", None, 7)),
        ({"choices": None}, "choices"),
        ({"correct_choice_idx": 4}, "out of range"),
        ({"question": None}, "question"),
    ],
)
def test_wrong_rows_are_refused_before_anything_is_written(tmp_path: Path, change: Any, clause: str) -> None:
    """An id becomes a folder: one that is a path would write outside of the data set."""
    rows = [{**AOKVQA, "question_id": "q0"}, {**AOKVQA, "image": picture("PNG"), **change}]
    # Split by split, as a column has one type.
    source = write(tmp_path / "hub", features=False, train=rows[:1], validation=rows[1:])
    with pytest.raises(AresError, match=rf"row 0 of val, .*{clause}"):
        fetch_hub(str(source), tmp_path / "root")
    assert not list(tmp_path.rglob("image.png"))
    assert not (tmp_path / "root/problems.json").exists()


def test_image_without_bytes_is_missing_rather_than_none(tmp_path: Path) -> None:
    lost = {"bytes": None, "path": "299207.jpg"}
    images = [lost, {"bytes": b"", "path": None}, {"bytes": None, "path": None}, picture("PNG")]
    rows = [{**SCIENCEQA, "image": image} for image in images]
    fetch_hub(str(write(tmp_path / "hub", features=False, train=rows)), tmp_path / "root")
    problems, _ = read_scienceqa(tmp_path / "root")
    found = [problem.image for problem in problems.values()]
    assert [image is not None for image in found] == [True, True, False, True]
    assert [image.is_file() for image in found if image] == [False, False, True]


def test_images_as_plain_bytes(tmp_path: Path) -> None:
    data = picture("JPEG")["bytes"]
    source = write(tmp_path / "hub", features=False, train=[{**SCIENCEQA, "image": data}])
    fetch_hub(str(source), tmp_path / "root")
    assert (tmp_path / "root/images/train-0/image.jpg").read_bytes() == data
