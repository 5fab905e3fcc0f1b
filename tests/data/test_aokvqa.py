"""A-OKVQA's official files and its conversion."""

import json
from pathlib import Path
from typing import Any

import pytest

from ares.config.command_line import mistakes_in
from ares.data.aokvqa import read_aokvqa
from ares.types import AresError

QUESTION = {
    "split": "train",
    "image_id": 299207,
    "question_id": "22MexNkBPpdZGX6sxbxVBH",
    "question": "What is the man by the bags awaiting?",
    "choices": ["skateboarder", "train", "delivery", "cab"],
    "correct_choice_idx": 3,
    "direct_answers": ["ride"] * 6 + ["bus", "taxi", "travelling", "traffic"],
    "difficult_direct_answer": False,
    "rationales": ["First.", "Second.", "Third."],
}
TEST = {name: QUESTION[name] for name in ("image_id", "question", "choices")} | {
    "question_id": "test1",
    "split": "test",
    "difficult_direct_answer": True,
}


def write(root: Path, **splits: Any) -> Path:
    root.mkdir(exist_ok=True)
    for split, rows in splits.items():
        (root / f"aokvqa_v1p0_{split}.json").write_text(json.dumps(rows))
    return root


def test_official_files(tmp_path: Path) -> None:
    val = {**QUESTION, "question_id": "val1", "image_id": 7, "difficult_direct_answer": True}
    root = write(tmp_path / "data", train=[QUESTION], val=[val], test=[TEST])
    problems, splits = read_aokvqa(root, coco=tmp_path / "coco")
    assert splits == {"train": ["22MexNkBPpdZGX6sxbxVBH"], "val": ["val1"], "test": ["test1"]}
    first = problems["22MexNkBPpdZGX6sxbxVBH"]
    assert first.image == tmp_path / "coco/train2017/000000299207.jpg"
    assert problems["val1"].image == tmp_path / "coco/val2017/000000000007.jpg"
    assert (first.choices[3], first.answer, first.split) == ("cab", 3, "train")
    assert first.rationales == ("First.", "Second.", "Third.")
    assert first.direct_answers == tuple(QUESTION["direct_answers"])
    assert (first.difficult, problems["val1"].difficult) == (False, True)
    assert first.solution == "First."
    # What the test split withholds is None or empty.
    withheld = problems["test1"]
    assert (withheld.answer, withheld.solution, withheld.rationales, withheld.direct_answers) == (
        None,
        "",
        (),
        (),
    )
    assert withheld.image == tmp_path / "coco/test2017/000000299207.jpg"
    assert read_aokvqa(root)[0]["val1"].image == root / "coco/val2017/000000000007.jpg"


def test_solution_is_the_chosen_rationale(tmp_path: Path) -> None:
    rows = [{**QUESTION, "question_id": str(number)} for number in range(60)]
    root = write(tmp_path, train=rows)
    assert {p.solution for p in read_aokvqa(root, rationale="all")[0].values()} == {"First. Second. Third."}
    drawn = {pid: p.solution for pid, p in read_aokvqa(root, rationale="sample")[0].items()}
    assert {text: list(drawn.values()).count(text) > 10 for text in QUESTION["rationales"]} == dict.fromkeys(
        QUESTION["rationales"], True
    )
    assert drawn == {pid: p.solution for pid, p in read_aokvqa(root, rationale="sample")[0].items()}
    assert drawn != {pid: p.solution for pid, p in read_aokvqa(root, rationale="sample", seed=1)[0].items()}
    [mistake] = mistakes_in(["data=aokvqa", "data.rationale=second"])
    assert "data.rationale=second: choose from first, all, sample" in mistake


def test_conversion_in_scienceqas_shape(tmp_path: Path) -> None:
    row = {
        "question": "What?",
        "choices": ["a", "b"],
        "answer": 1,
        "hint": "",
        "image": "image.png",
        "solution": "Own.",
    }
    rows = {
        "1": row,
        "2": {**row, "rationales": ["One.", "Two."], "direct_answers": ["a"], "difficult": True},
    }
    (tmp_path / "problems.json").write_text(json.dumps(rows))
    (tmp_path / "pid_splits.json").write_text(json.dumps({"train": ["1"], "val": ["2"]}))
    (tmp_path / "captions.json").write_text(json.dumps({"2": "A cat."}))
    problems, splits = read_aokvqa(tmp_path)
    assert splits == {"train": ["1"], "val": ["2"], "test": []}
    assert problems["1"].image == tmp_path / "images/1/image.png"
    assert (problems["1"].solution, problems["2"].solution) == ("Own.", "One.")
    assert (problems["2"].direct_answers, problems["2"].difficult, problems["2"].caption) == (
        ("a",),
        True,
        "A cat.",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct_choice_idx": 4}, r"train\.json: question 2 \(x\), field \"answer\" is 4, out of range"),
        ({"choices": []}, "non-empty list"),
        ({"image_id": "7"}, "COCO's number"),
        ({"question": None}, "make it text"),
        ({"rationales": "one"}, r"\"rationales\" must be a list of texts"),
        ({"question_id": "a/b"}, "without a slash"),
        ({"question_id": "a\ud83d"}, r"question 2 .*\"question_id\" holds half a character"),
        ({"direct_answers": ["\ud83d"]}, r"question 2 \(x\), .*\"direct_answers\" holds half a character"),
        ({"question_id": ".."}, "without a slash"),
        ({"question_id": 7}, "without a slash"),
    ],
)
def test_mistakes_are_reported_with_file_question_and_field(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    root = write(tmp_path, train=[QUESTION, {**QUESTION, "question_id": "x", **change}])
    with pytest.raises(AresError, match=message):
        read_aokvqa(root)


def test_missing_and_misplaced_files(tmp_path: Path) -> None:
    with pytest.raises(AresError, match=r"data\.root is not set"):
        read_aokvqa(None)
    with pytest.raises(AresError, match=r"neither aokvqa_v1p0_train\.json nor problems"):
        read_aokvqa(tmp_path)
    with pytest.raises(AresError, match="question 22MexNkBPpdZGX6sxbxVBH occurs twice"):
        read_aokvqa(write(tmp_path, train=[QUESTION], val=[QUESTION]))
    without = {name: value for name, value in QUESTION.items() if name != "image_id"}
    with pytest.raises(AresError, match='field "image_id" is missing'):
        read_aokvqa(write(tmp_path, train=[without]))
    with pytest.raises(AresError, match="it must be a list of questions"):
        read_aokvqa(write(tmp_path, train={"a": 1}))


def test_blank_rationales_are_left_out_and_joined_ones_end_as_sentences(tmp_path: Path) -> None:
    rows = [{**QUESTION, "rationales": ["", "  ", " One", "Two!", "He said 'no.'"]}]
    root = write(tmp_path, train=[*rows, {**QUESTION, "question_id": "blank", "rationales": [" ", ""]}])
    for rationale, expected in (("first", "One"), ("all", "One. Two! He said 'no.'")):
        problems, _ = read_aokvqa(root, rationale=rationale)
        assert [problem.solution for problem in problems.values()] == [expected, ""]
    drawn = {
        read_aokvqa(root, rationale="sample", seed=seed)[0][QUESTION["question_id"]].solution
        for seed in range(20)
    }
    assert drawn == {"One", "Two!", "He said 'no.'"}
