"""Preferences in their published shapes, by the hub's column names, and the messages about their mistakes."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ares.data.conversations import read_conversations
from ares.data.preferences import read_preferences
from ares.types import AresError, Problem

PLAIN = {"id": "a", "image": "a.png", "prompt": "What is it?", "chosen": "A cat.", "rejected": "A dog."}
LLAVA = {
    "id": "000/b",
    "image": "a.png",
    "conversations": [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": "A cat."},
        {"from": "human", "value": "Its color?"},
    ],
    "output_1": {"from": "llava", "value": "Red."},
    "output_2": {"from": "llava", "value": "Black."},
    "preference": 2,
}
NAMES = ("Helpfulness", "Visual Faithfulness", "Ethical Considerations")


def rated(response: str, *ratings: Any) -> dict[str, Any]:
    notes = {
        name: {"Rating": str(rating), "Rationale": "r"} for name, rating in zip(NAMES, ratings, strict=True)
    }
    return {"model": "m", "response": response, "annotations": notes}


FEEDBACK = {
    "id": "c",
    "prompt": "Describe it.",
    "models": ["m", "m", "m"],
    "completions": [rated("Fine.", 4, 4, 5), rated("Good.", 5, 5, 5), rated("Bad.", 1, 2, 3)],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    return tmp_path


def write(folder: Path, *rows: Any, suffix: str = ".jsonl") -> Path:
    path = folder / f"rows{suffix}"
    lines = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    path.write_text(json.dumps(list(rows)) if suffix == ".json" else lines)
    return path


def only(path: Path, **options: Any) -> Problem:
    [problem] = read_preferences(path, **options)[0].values()
    return problem


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_plain_rows(folder: Path, suffix) -> None:
    other = {**PLAIN, "id": None, "images": ["a.png", "a.png"], "image": None, "split": "val"}
    problems, splits = read_preferences(write(folder, PLAIN, other, suffix=suffix), val=0.0)
    assert splits == {"train": ["a"], "val": ["row-2"], "test": []}
    found = problems["a"]
    assert (found.question, found.solution, found.rejected) == ("What is it?", "A cat.", "A dog.")
    assert found.images == (folder / "a.png",)
    assert found.turns == ()
    assert found.choices == ()


def test_rows_of_llava_keep_the_turns_before_the_last_question(folder: Path) -> None:
    found = only(write(folder, LLAVA))
    assert (found.pid, found.question) == ("000-b", "Its color?")
    assert (found.solution, found.rejected) == ("Black.", "Red.")
    assert found.turns == (("What is it?", "A cat."),)
    assert only(write(folder, {**LLAVA, "preference": 1})).solution == "Red."


def test_parquet_of_rlhf_v_with_image_bytes(folder: Path) -> None:
    text = json.dumps({"question": "What is it?", "chosen": "A cat.", "rejected": "A dog."})
    image = {"bytes": (folder / "a.png").read_bytes(), "path": None}
    row = {"ds_name": "RLHF-V", "image": image, "text": text, "idx": 7, "image_path": "x.jpg"}
    pq.write_table(pa.Table.from_pylist([row]), folder / "rows.parquet")
    found = only(folder / "rows.parquet")
    assert (found.pid, found.question, found.rejected) == ("7", "What is it?", "A dog.")
    assert Image.open(found.images[0]).size == (8, 8)


def test_rows_of_vlfeedback_give_the_best_and_the_worst_completion(folder: Path) -> None:
    found = only(write(folder, FEEDBACK))
    assert (found.solution, found.rejected) == ("Good.", "Bad.")
    # as `datasets` has a list of objects
    entries = FEEDBACK["completions"]
    notes = {name: [entry["annotations"][name] for entry in entries] for name in NAMES}
    columns = {"annotations": notes, "response": [entry["response"] for entry in entries]}
    assert only(write(folder, {**FEEDBACK, "completions": columns})).rejected == "Bad."


def folded(row: dict[str, Any]) -> dict[str, Any]:
    """A row of VLFeedback with its completions as the hub's parquet has them: an object of lists."""
    names = ("annotations", "model", "response")
    return {**row, "completions": {name: [own[name] for own in row["completions"]] for name in names}}


def test_parquet_of_vlfeedback_with_image_bytes_and_ties(folder: Path, capsys) -> None:
    close = {**FEEDBACK, "id": "close", "completions": [rated("A.", 3, 3, 3), rated("B.", 3, 3, 4)]}
    tie = {**FEEDBACK, "id": "tie", "completions": [rated("A.", 3, 3, 3), rated("B.", 3, 3, 3)]}
    image = {"bytes": (folder / "a.png").read_bytes(), "path": "a.png"}
    rows = [{**folded(row), "image": image} for row in (tie, FEEDBACK, close)]
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    problems, _ = read_preferences(path)
    assert {pid: (found.solution, found.rejected) for pid, found in problems.items()} == {
        "c": ("Good.", "Bad."),
        "close": ("B.", "A."),
    }
    assert Image.open(problems["c"].images[0]).size == (8, 8)
    assert list(read_preferences(path, margin=0.5)[0]) == ["c"]
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: 1 row is a tie and left out",
        f"{path}: 2 rows are ties and left out",
    ]


def test_ties_are_left_out_and_counted_once(folder: Path, capsys) -> None:
    tie = {**FEEDBACK, "completions": [rated("A.", 3, 3, 3), rated("B.", 3, 3, 3)]}
    path = write(folder, PLAIN, {**LLAVA, "preference": 0}, tie, {**LLAVA, "id": "d"})
    for _ in range(2):  # as several steps do
        assert list(read_preferences(path, val=0.0)[0]) == ["a", "d"]
    assert capsys.readouterr().out == f"{path}: 2 rows are ties and left out\n"
    with pytest.raises(AresError, match="holds 2 ties and no other row"):
        read_preferences(write(folder, FEEDBACK, tie), margin=4.0)


WRONG = [
    ({**PLAIN, "rejected": "A cat. "}, 'row 1, field "rejected" is the same text as the chosen response'),
    ({**PLAIN, "chosen": " "}, 'row 1, field "chosen" is empty'),
    ({**PLAIN, "prompt": 3}, 'row 1, field "prompt" is a number; make it text'),
    ({k: v for k, v in PLAIN.items() if k != "chosen"}, 'row 1, field "chosen" is missing'),
    ({**PLAIN, "image": "b.png"}, 'row 1, field "image" is b.png, which is not in'),
    ({**PLAIN, "prompt": "<image> <image> Same?"}, 'field "image" has 1 images, and the texts have 2 places'),
    ({**PLAIN, "split": "dev"}, "field \"split\" is 'dev'"),
    ({**PLAIN, "chosen": "\ud83d"}, "half a character"),
    ({**LLAVA, "preference": 3}, 'field "preference" is 3'),
    ({**LLAVA, "conversations": LLAVA["conversations"][:2]}, "must end with the user"),
    ({**LLAVA, "conversations": LLAVA["conversations"][1:]}, "a message 1 from 'gpt'"),
    ({**FEEDBACK, "completions": [rated("A.", 1, 1, "N/A")] * 2}, "needs annotations with a Rating"),
    ({**FEEDBACK, "completions": []}, "two responses or more"),
    ({"text": "{", "image": "a.png"}, 'field "text" is not valid JSON'),
    ("{", 'row 1, field "row" cannot be read: it is not valid JSON'),
    ([1], 'field "row" is a list'),
]


@pytest.mark.parametrize(("row", "message"), WRONG)
def test_mistakes_name_file_row_and_field(folder: Path, row, message) -> None:
    with pytest.raises(AresError) as error:
        read_preferences(write(folder, row))
    assert str(folder / "rows.jsonl") in str(error.value)
    assert message in str(error.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AresError, match=r"data.root=.* is not a .jsonl, .json or .parquet file"):
        read_preferences(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (("human", "gpt", "value", "from"), "a.png"),
        (("user", "assistant", "content", "role"), ["a.png", "b.png"]),
    ],
)
def test_each_reply_of_a_conversation_is_a_problem(folder: Path, names, images) -> None:
    user, reply, said, who = names
    Image.new("RGB", (8, 8), "blue").save(folder / "b.png")
    texts = ["<image>\nWhat?", "A cat.", "Color?", "Black."]
    turns = [{who: (user, reply)[number % 2], said: text} for number, text in enumerate(texts)]
    field = "image" if images == "a.png" else "images"
    row = {"id": "c", field: images, "conversations": turns}
    problems, splits = read_conversations(write(folder, row, suffix=".json"), val=0.0)
    assert splits["train"] == ["c-1", "c-2"]
    assert (problems["c-1"].question, problems["c-1"].solution, problems["c-1"].turns) == (
        "What?",
        "A cat.",
        (),
    )
    assert (problems["c-2"].question, problems["c-2"].turns) == ("Color?", (("What?", "A cat."),))
    assert problems["c-2"].images == tuple(folder / name for name in ("a.png", "b.png") if name in images)
    with pytest.raises(AresError, match="ends with the user"):
        read_conversations(write(folder, {**row, "conversations": turns[:3]}))
    with pytest.raises(AresError, match=f'has a message 2 whose field "{said}" is empty'):
        read_conversations(write(folder, {**row, "conversations": [turns[0], {**turns[1], said: ""}]}))
