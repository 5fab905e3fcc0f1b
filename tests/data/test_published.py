"""TabMWP, ChartQA, CLEVR-Math and GeoQA in their published forms, and messages about what is wrong in them."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ares.config.schema import Config
from ares.data.chartqa import read_chartqa
from ares.data.clevr_math import read_clevr_math
from ares.data.geoqa import read_geoqa
from ares.data.tabmwp import read_tabmwp
from ares.evaluation.checkers import CHECKERS
from ares.steps.prepare import read_problems, source_hash
from ares.text.prompts import build_example
from ares.types import AresError
from tests.support.composed import composed

COINS = {
    "question": "What is the mean?",
    "choices": None,
    "answer": "84",
    "unit": "$",
    "table_title": "Coins",
    "table": "Name | Coins\nAda | 76\nBob | 92",
    "table_for_pd": {"Name": ["Ada", "Bob"], "Coins": ["76", "92"]},
    "row_num": 3,
    "column_num": 2,
    "solution": "76 + 92 = 168. 168 / 2 = 84.",
    "ques_type": "free_text",
    "ans_type": "integer_number",
    "grade": 5,
    "split": "train",
}
CHOICE = {
    **COINS,
    "choices": ["surplus", "shortage"],
    "answer": "shortage",
    "unit": None,
    "ques_type": "multi_choice",
}
TURNS = [
    {
        "from": "human",
        "value": "<image>\nFirst perform reasoning, then finally select the question from the choices in the following "
        "format: Answer: xxx.\nQuestion: How large is angle 2?\nChoices:\nA: 32°\nB: 58°\nC: 2√3",
    },
    {"from": "gpt", "value": "Angle 2 = 90° - 32° = 58°.\nAnswer: B"},
]
TALK = {"image": "geoqa_plus/7.png", "conversations": TURNS}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False))
    return path


def test_tabmwp(tmp_path: Path) -> None:
    write(tmp_path / "problems_train.json", {"16": COINS, "17": CHOICE})
    write(tmp_path / "problems_dev1k.json", {"18": {**COINS, "unit": None}})
    problems, splits = read_tabmwp(tmp_path)
    assert splits == {"train": ["16", "17"], "val": ["18"], "test": []}
    coins, choice = problems["16"], problems["17"]
    assert (coins.question, coins.choices, coins.answer, coins.direct_answers) == (
        "What is the mean? (Unit: $)",
        (),
        None,
        ("84",),
    )
    assert coins.hint == "Coins\nName | Coins\nAda | 76\nBob | 92"
    assert (coins.image, coins.grade, coins.task) == (tmp_path / "tables/16.png", "grade5", "free_text")
    assert (choice.choices, choice.answer, choice.direct_answers) == (("surplus", "shortage"), 1, ())
    assert read_tabmwp(tmp_path, table=False)[0]["16"].hint == ""
    assert build_example(coins, "QCM-A").target == "The answer is 84."
    assert CHECKERS["tabmwp"](coins, "The answer is $84.00.").correct


def test_chartqa(tmp_path: Path) -> None:
    row = {"imgname": "41.png", "query": "How many bars?", "label": "14"}
    write(tmp_path / "test/test_human.json", [row, {**row, "label": "Italy"}])
    write(tmp_path / "test/test_augmented.json", [row])
    problems, splits = read_chartqa(tmp_path)
    assert splits == {"train": [], "val": [], "test": ["test-human-0", "test-human-1", "test-augmented-0"]}
    problem = problems["test-human-1"]
    assert (problem.direct_answers, problem.category) == (("Italy",), "human")
    assert problem.image == tmp_path / "test/png/41.png"


def test_clevr_math(tmp_path: Path) -> None:
    row = {
        "question": "Subtract all blocks. How many objects are left?",
        "image_filename": "CLEVR_val_000003.png",
        "split": "val",
        "template_filename": "subtraction.json",
        "answer": 7,
    }
    write(tmp_path / "clevr-math-val.json", {"info": {}, "questions": [row, row]})
    problems, splits = read_clevr_math(tmp_path)
    assert splits["val"] == ["val-0", "val-1"]
    problem = problems["val-1"]
    assert (problem.direct_answers, problem.category) == (("7",), "subtraction")
    assert problem.image == tmp_path / "CLEVR_v1.0/images/val/CLEVR_val_000003.png"
    elsewhere = read_clevr_math(tmp_path, images=tmp_path / "clevr")[0]["val-0"]
    assert elsewhere.image == tmp_path / "clevr/val/CLEVR_val_000003.png"


def test_geoqa_as_conversations(tmp_path: Path) -> None:
    write(tmp_path / "qa_tuning.json", [TALK])
    direct = [
        {"from": "user", "value": "Question:Size?\nChoices:\n(A) 1\n(B) 2"},
        {"from": "assistant", "value": "A"},
    ]
    (tmp_path / "test.jsonl").write_text(json.dumps({"image": "8.png", "conversations": direct}) + "\n")
    problems, splits = read_geoqa(tmp_path)
    assert splits == {"train": ["train-0"], "val": [], "test": ["test-0"]}
    problem = problems["train-0"]
    assert (problem.question, problem.choices, problem.answer) == (
        "How large is angle 2?",
        ("32°", "58°", "2√3"),
        1,
    )
    assert problem.solution == "Angle 2 = 90° - 32° = 58°."
    assert problem.image == tmp_path / "images/geoqa_plus/7.png"
    assert (problems["test-0"].choices, problems["test-0"].answer) == (("1", "2"), 0)


def test_geoqa_as_pickles(tmp_path: Path) -> None:
    row = {
        "id": 12,
        "subject": "如图,∠2的度数为()",
        "choices": ["32°", "58°"],
        "label": 1,
        "formal_point": ["平行线"],
        "choice_nums": [32.0, np.float64(58.0)],
        "image": np.arange(12, dtype=np.uint8).reshape(3, 4),
    }
    (tmp_path / "dev.pk").write_bytes(pickle.dumps([row]))
    for _ in range(2):  # the second time the picture is there
        problems, splits = read_geoqa(tmp_path)
    assert splits["val"] == ["val-12"]
    problem = problems["val-12"]
    assert (problem.question, problem.answer, problem.topic) == ("如图,∠2的度数为()", 1, "平行线")
    assert problem.image is not None
    assert np.array_equal(np.asarray(Image.open(problem.image)), row["image"])


def test_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return print, ("run",)

    (tmp_path / "train.pk").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(AresError, match=r"train\.pk cannot be read \(it refers to builtins\.print\)"):
        read_geoqa(tmp_path)


WRONG = {
    'problems_train.json: problem 16, field "answer" is a number; make it text.': (
        {"16": {**COINS, "answer": 84}}
    ),
    'problem 16, field "table" is missing': ({"16": {k: v for k, v in COINS.items() if k != "table"}}),
    "which is none of its choices": ({"16": {**CHOICE, "answer": "glut"}}),
    "problem 16 is a list; it must be an object": ({"16": []}),
    'problem 16, field "choices" is a number': ({"16": {**COINS, "choices": 3}}),
}


@pytest.mark.parametrize("message", WRONG)
def test_mistakes_in_tabmwp(tmp_path: Path, message: str) -> None:
    write(tmp_path / "problems_train.json", WRONG[message])
    with pytest.raises(AresError, match=re.escape(message)):
        read_tabmwp(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conversations": TURNS[:1]}, 'row 1, field "conversations" has 1 turns'),
        ({"conversations": [TURNS[0], {"value": "58°"}]}, 'turn 2 does not end in "Answer: <letter>"'),
        ({"conversations": [TURNS[0], {"value": "Answer: D"}]}, "with the letter of a choice"),
        ({"conversations": [{"value": "How large?"}, TURNS[1]]}, "turn 1 does not list its choices"),
        ({"image": None}, 'row 1, field "image" is null; make it text.'),
    ],
)
def test_mistakes_in_conversations(tmp_path: Path, changes: dict, message: str) -> None:
    write(tmp_path / "train.json", [{**TALK, **changes}])
    with pytest.raises(AresError, match=re.escape(message)):
        read_geoqa(tmp_path)


def test_mistakes_in_chartqa_and_clevr_math(tmp_path: Path) -> None:
    write(tmp_path / "val/val_human.json", [{"imgname": "1.png", "query": "Q?", "label": 3}])
    with pytest.raises(AresError, match=r'val_human\.json: row 1, field "label" is a number; make it text'):
        read_chartqa(tmp_path)
    write(tmp_path / "clevr-math-test.json", {"questions": [{"question": "Q?", "answer": "7"}]})
    with pytest.raises(AresError, match=r'row 1, field "answer" is text; make it a whole number'):
        read_clevr_math(tmp_path)
    with pytest.raises(AresError, match="holds no questions"):
        read_geoqa(tmp_path)


@pytest.mark.parametrize("name", ["tabmwp", "chartqa", "clevr_math", "geoqa"])
def test_configured(name: str, tmp_path: Path) -> None:
    files = {
        "tabmwp": ("problems_train.json", {"16": COINS}),
        "chartqa": ("train/train_human.json", [{"imgname": "1.png", "query": "Q?", "label": "3"}]),
        "clevr_math": (
            "clevr-math-train.json",
            {"questions": [{"question": "Q?", "answer": 7, "image_filename": "1.png"}]},
        ),
        "geoqa": ("train.json", [TALK]),
    }
    path = write(tmp_path / files[name][0], files[name][1])
    config: Config = composed(f"data={name}", f"data.root={tmp_path}")
    [problem] = read_problems(config.data, tmp_path)[0].values()
    assert problem.split == "train"
    assert config.data.checker in CHECKERS
    before = source_hash(config)
    path.write_text(path.read_text() + " ")
    assert source_hash(config) != before  # the file is one of those whose contents steps depend on
