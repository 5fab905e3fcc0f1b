import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ares.data.captions import read_captions
from ares.data.scienceqa import read_scienceqa
from ares.types import AresError

PROBLEM = {
    "question": "Which is colder?",
    "choices": ["ice", "steam"],
    "answer": 0,
    "hint": "",
    "image": "image.png",
    "task": "closed choice",
    "grade": "grade2",
    "subject": "natural science",
    "topic": "physics",
    "category": "Thermal energy",
    "skill": "Compare temperatures",
    "lecture": "Ice is frozen water.",
    "solution": "Ice is cold.\nSteam is hot.",
    "split": "train",
}


def write(root: Path, problems: Any, splits: Any = None, **files: Any) -> Path:
    root.mkdir(exist_ok=True)
    (root / "problems.json").write_text(json.dumps(problems))
    (root / "pid_splits.json").write_text(json.dumps(splits or {"train": ["1"], "val": ["2"], "test": []}))
    for name, content in files.items():
        (root / f"{name}.json").write_text(json.dumps(content))
    return root


def two(**changes: Any) -> dict[str, Any]:
    """Two problems, the second with changed fields."""
    return {"1": PROBLEM, "2": {**PROBLEM, "image": None, **changes}}


def test_published_layout(shared: Path) -> None:
    root = shared / "data/scienceqa"
    problems, splits = read_scienceqa(root)
    assert {split: len(pids) for split, pids in splits.items()} == {"train": 900, "val": 250, "test": 200}
    assert len(problems) == 1350
    raw = json.loads((root / "problems.json").read_text())
    captions = json.loads((root / "captions.json").read_text())["captions"]
    for pid, problem in problems.items():
        row = raw[pid]
        assert problem.pid == pid
        for name in ("question", "hint", "lecture", "solution", "grade", "subject", "skill", "answer"):
            assert getattr(problem, name) == row[name]
        assert list(problem.choices) == row["choices"]
        assert problem.caption == captions.get(pid, "")
        assert problem.image == (root / "images" / pid / "image.png" if row["image"] else None)
        assert pid in splits[problem.split]


def test_all_fields_of_a_problem(tmp_path: Path) -> None:
    root = write(tmp_path, two(), captions={"captions": {"1": "A cube.", "9": "Unknown."}})
    problems, splits = read_scienceqa(root)
    assert splits == {"train": ["1"], "val": ["2"], "test": []}
    assert list(problems) == ["1", "2"]
    first = problems["1"]
    assert (first.choices, first.answer, first.split) == (("ice", "steam"), 0, "train")
    assert (first.caption, first.solution) == ("A cube.", "Ice is cold.\nSteam is hot.")
    # pid_splits.json decides, not the field of the problem.
    assert (problems["2"].split, problems["2"].image, problems["2"].caption) == ("val", None, "")
    assert (first.rationales, first.direct_answers, first.difficult) == ((), (), False)


def test_order_of_splits_and_extra_splits(tmp_path: Path) -> None:
    rows = dict.fromkeys(("1", "2", "3"), PROBLEM)
    splits = {"test": ["3", "1"], "train": ["2"], "minitrain": ["2", "77"], "trainval": ["2"]}
    _, found = read_scienceqa(write(tmp_path, rows, splits))
    assert found == {"train": ["2"], "val": [], "test": ["3", "1"]}


def test_captions_from_another_file(tmp_path: Path) -> None:
    root = write(tmp_path / "data", two(), captions={"1": "Default."})
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"1": ["Two parts,", "one caption."], "2": "Plain."}))
    assert read_scienceqa(root)[0]["1"].caption == "Default."
    problems, _ = read_scienceqa(str(root), captions=str(other))
    assert [problems[pid].caption for pid in "12"] == ["Two parts, one caption.", "Plain."]


def test_captions_that_are_missing_or_not_text(tmp_path: Path) -> None:
    root = write(tmp_path, two())
    assert read_scienceqa(root)[0]["1"].caption == ""
    with pytest.raises(AresError, match=r"nowhere\.json is missing"):
        read_scienceqa(root, captions=tmp_path / "nowhere.json")
    for content in ({"7": 3}, {"captions": {"7": [1]}}):
        (tmp_path / "bad.json").write_text(json.dumps(content))
        with pytest.raises(AresError, match=r"bad\.json: the caption of problem 7"):
            read_captions(tmp_path / "bad.json")


def test_image_layouts(tmp_path: Path) -> None:
    root = write(tmp_path, dict.fromkeys(("1", "2", "3"), PROBLEM), {"train": ["1", "2"], "test": ["3"]})
    images = root / "images"

    def found() -> list[Path | None]:
        return [problem.image for problem in read_scienceqa(root)[0].values()]

    # No image on disk: still expected.
    assert found() == [images / pid / "image.png" for pid in "123"]
    (images / "train/1").mkdir(parents=True)
    (images / "train/1/image.png").touch()
    (images / "test").mkdir()
    assert found() == [
        images / "train/1/image.png",
        images / "train/2/image.png",
        images / "test/3/image.png",
    ]
    # A file that is there wins over one that is not.
    (images / "2").mkdir()
    (images / "2/image.png").touch()
    assert found()[1] == images / "2/image.png"


@pytest.mark.parametrize("name", sorted(set(PROBLEM) - {"split"}))
def test_missing_field(tmp_path: Path, name: str) -> None:
    rows = copy.deepcopy(two())
    del rows["2"][name]
    with pytest.raises(AresError) as error:
        read_scienceqa(write(tmp_path, rows))
    message = str(error.value)
    assert "problems.json" in message
    assert f'problem 2, field "{name}" is missing' in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": 2}, 'problem 2, field "answer" is 2, out of range: it must be 0 to 1'),
        ({"answer": -1}, 'problem 2, field "answer" is -1, out of range'),
        ({"answer": "A"}, 'problem 2, field "answer" is text'),
        ({"answer": True}, 'problem 2, field "answer" is true or false'),
        ({"choices": [str(n) for n in range(27)]}, 'problem 2, field "choices" has 27 choices; at most 26'),
        ({"choices": []}, 'problem 2, field "choices" must be a non-empty list'),
        ({"choices": ["a", 2]}, 'problem 2, field "choices" must be'),
        ({"question": None}, 'problem 2, field "question" is null'),
        ({"image": 3}, 'problem 2, field "image" is a number'),
    ],
)
def test_bad_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AresError) as error:
        read_scienceqa(write(tmp_path, two(**changes)))
    assert message in str(error.value)
    assert "problems.json" in str(error.value)


@pytest.mark.parametrize("name", ["question", "solution", "image", "choices", "rationales"])
def test_half_a_character_is_refused_with_problem_and_field(tmp_path: Path, name: str) -> None:
    half = "Ice \ud83d."
    row = {name: [half, "steam"] if name in ("choices", "rationales") else half}
    with pytest.raises(AresError, match=rf'problem 2, field "{name}" holds half a character') as error:
        read_scienceqa(write(tmp_path, two(**row)))
    str(error.value).encode()
    full = {"question": "Ice \U0001f9ca."}
    assert read_scienceqa(write(tmp_path, two(**full)))[0]["2"].question == full["question"]


def test_half_a_character_in_an_id_or_a_caption(tmp_path: Path) -> None:
    with pytest.raises(AresError, match='field "pid" holds half a character'):
        read_scienceqa(write(tmp_path, {"1": PROBLEM, "2": PROBLEM, "3\udc00": PROBLEM}))
    captions = {"captions": {"2": ["One.", "\ude00"]}}
    with pytest.raises(AresError, match="the caption of problem 2 holds half a character"):
        read_scienceqa(write(tmp_path, two(), captions=captions))


def test_limits_that_are_allowed(tmp_path: Path) -> None:
    root = write(tmp_path, two(choices=[str(n) for n in range(26)], answer=25, image=""))
    problem = read_scienceqa(root)[0]["2"]
    assert (len(problem.choices), problem.answer, problem.image) == (26, 25, None)
    assert read_scienceqa(write(tmp_path, two(answer=None)))[0]["2"].answer is None


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": ["1"], "val": ["99"]}, "split val lists problem 99"),
        ({"train": ["1", "2"], "val": ["1"]}, "problem 1 is in split train and again in val"),
        ({"train": "1"}, "split train is text"),
        ({"learn": ["1"]}, "none of the splits train, val, test"),
        (["1"], "holds a list"),
    ],
)
def test_bad_splits(tmp_path: Path, splits: Any, message: str) -> None:
    with pytest.raises(AresError) as error:
        read_scienceqa(write(tmp_path, two(), splits))
    assert message in str(error.value)
    assert "pid_splits.json" in str(error.value)


def test_numbers_as_ids_in_splits(tmp_path: Path) -> None:
    assert read_scienceqa(write(tmp_path, two(), {"train": [1, 2]}))[1]["train"] == ["1", "2"]


def test_error_of_invalid_json_has_file_and_line(tmp_path: Path) -> None:
    root = write(tmp_path, two())
    (root / "problems.json").write_text('{\n"1": {},\n"2": oops\n}')
    with pytest.raises(AresError, match=r"problems\.json is not valid JSON \(line 3"):
        read_scienceqa(root)


@pytest.mark.parametrize("content", [["1"], {"1": "text"}, {"1": []}])
def test_wrong_shape(tmp_path: Path, content: Any) -> None:
    with pytest.raises(AresError, match=r"problems\.json.*object"):
        read_scienceqa(write(tmp_path, content))


def test_missing_root_or_files_are_refused_with_the_remedy(tmp_path: Path) -> None:
    for root in (None, tmp_path / "absent"):
        with pytest.raises(AresError, match=r"data\.root=.*python train\.py experiment=demo"):
            read_scienceqa(root)
    with pytest.raises(AresError, match=r"pid_splits\.json|problems\.json is missing"):
        read_scienceqa(tmp_path)
    write(tmp_path, two())
    (tmp_path / "pid_splits.json").unlink()
    with pytest.raises(AresError, match=r"pid_splits\.json is missing"):
        read_scienceqa(tmp_path)


@pytest.mark.parametrize("pid", ["..", ".", "a/b", ""])
def test_id_that_is_a_path_is_refused(tmp_path: Path, pid: str) -> None:
    with pytest.raises(
        AresError, match=r"problems\.json: problem .*its id must be a non-empty text without a slash"
    ):
        read_scienceqa(write(tmp_path, {"1": PROBLEM, "2": PROBLEM, pid: PROBLEM}))


def test_files_with_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    root = write(tmp_path, two())
    expected = read_scienceqa(root)
    for path in root.glob("*.json"):
        text = json.dumps(json.loads(path.read_text()), indent=1)
        path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_scienceqa(root) == expected


@pytest.mark.parametrize("name", ["validation", "valid", "dev"])
def test_val_by_another_name(tmp_path: Path, name: str) -> None:
    root = write(tmp_path, two(), {"train": ["1"], name: ["2"]})
    problems, splits = read_scienceqa(root)
    assert splits == {"train": ["1"], "val": ["2"], "test": []}
    assert problems["2"].split == "val"
    write(root, two(), {"train": ["1"], "val": ["2"], name: ["2"]})
    with pytest.raises(AresError, match=f"a split val and a split {name}; keep one"):
        read_scienceqa(root)


def test_problem_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, two())
    (root / "problems.json").write_text(f'{{"1": {json.dumps(PROBLEM)}, "1": {json.dumps(PROBLEM)}}}')
    with pytest.raises(AresError, match=r"problems.json has the key '1' twice in one object; keep one\."):
        read_scienceqa(root)
