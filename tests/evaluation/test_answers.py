import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ares.data.scienceqa import read_scienceqa
from ares.evaluation.answers import (
    CATEGORIES,
    accuracy_counts,
    accuracy_table,
    extract_answer,
    failed_extractions,
    leaderboard,
    letter_to_index,
    vqa_accuracy,
)
from ares.types import Problem

GOLDEN_NAMES = {
    "NAT": "acc_natural",
    "SOC": "acc_social",
    "LAN": "acc_language",
    "TXT": "acc_has_text",
    "IMG": "acc_has_image",
    "NO": "acc_no_context",
    "G1-6": "acc_grade_1_6",
    "G7-12": "acc_grade_7_12",
    "AVG": "acc_average",
}
PROBLEM = Problem(
    pid="1",
    question="Which is cold?",
    choices=("ice", "steam"),
    answer=0,
    hint="",
    caption="",
    lecture="",
    solution="",
    image=None,
    split="test",
    subject="natural science",
    topic="",
    category="",
    skill="",
    grade="grade6",
    task="",
)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict:
    return json.loads((shared / "golden/metrics.json").read_text())


def test_accuracy_table_of_a_published_model(shared: Path, golden: dict) -> None:
    problems, splits = read_scienceqa(shared / "data/scienceqa")
    outputs = json.loads((shared / "data/scienceqa/test_outputs_llava_13b.json").read_text())
    predictions = {pid: outputs["results"][pid] for pid in splits["test"]}
    expected = golden["accuracy"]["llava"]
    table, counts = accuracy_table(problems, predictions), accuracy_counts(problems, predictions)
    assert list(table) == list(counts) == list(GOLDEN_NAMES)
    for name, golden_name in GOLDEN_NAMES.items():
        assert round(table[name], 2) == expected["scores"][golden_name], name
        assert counts[name] == expected["counts"][golden_name], name


def test_extraction_equals_the_original(golden: dict) -> None:
    assert len(golden["extract_ans"]) > 30
    for case in golden["extract_ans"]:
        letter = extract_answer(case["text"])
        assert letter == (None if case["out"] == "FAILED" else case["out"]), case["text"]
        if not case["random"]:
            assert letter_to_index(letter) == case["index"]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B). BECAUSE: ice floats.", "B"),
        ("The answer is (A). The answer is (A).", None),
        ("The answer is (a).", None),
        ("So the answer is (A).", None),
        ("The answer is\n(A).", None),
        ("The answer is (Z).", "Z"),
        ("", None),
    ],
)
def test_extract_answer(text: str, letter: str | None) -> None:
    assert extract_answer(text) == letter


def test_letter_to_index() -> None:
    assert [letter_to_index(letter) for letter in ("A", "C", "Z", None)] == [0, 2, 25, None]
    for bad in ("a", "AB", "", "1", "É"):
        with pytest.raises(ValueError, match="letter"):
            letter_to_index(bad)


def test_failed_extraction_is_wrong_and_counted() -> None:
    problems = {str(i): replace(PROBLEM, pid=str(i)) for i in range(4)}
    predictions = {"0": 0, "1": None, "2": 1, "3": None}
    table = accuracy_table(problems, predictions)
    assert table["AVG"] == 25.0
    assert failed_extractions(predictions) == 2
    assert accuracy_counts(problems, predictions)["AVG"] == 4


def test_empty_categories_are_none() -> None:
    table = accuracy_table({"1": PROBLEM}, {"1": 0})
    assert table == {
        "NAT": 100.0,
        "SOC": None,
        "LAN": None,
        "TXT": None,
        "IMG": None,
        "NO": 100.0,
        "G1-6": 100.0,
        "G7-12": None,
        "AVG": 100.0,
    }
    assert set(accuracy_table({}, {}).values()) == {None}


def test_only_predicted_questions_with_a_known_answer_count() -> None:
    problems = {
        "1": PROBLEM,
        "2": replace(PROBLEM, pid="2", answer=None),
        "3": replace(PROBLEM, pid="3", answer=1),
    }
    # The prediction None must not equal the withheld answer None.
    assert accuracy_table(problems, {"1": 1, "2": None})["AVG"] == 0.0
    assert accuracy_counts(problems, {"1": 1, "2": None})["AVG"] == 1


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"subject": "social science"}, {"SOC", "NO", "G1-6", "AVG"}),
        ({"hint": "Look."}, {"NAT", "TXT", "G1-6", "AVG"}),
        ({"image": Path("absent.png")}, {"NAT", "IMG", "G1-6", "AVG"}),
        ({"hint": "Look.", "image": Path("absent.png")}, {"NAT", "TXT", "IMG", "G1-6", "AVG"}),
        ({"grade": "grade7"}, {"NAT", "NO", "G7-12", "AVG"}),
        ({"grade": "grade12"}, {"NAT", "NO", "G7-12", "AVG"}),
        ({"grade": "grade1"}, {"NAT", "NO", "G1-6", "AVG"}),
        ({"grade": ""}, {"NAT", "NO", "AVG"}),
    ],
)
def test_category_membership(change: dict, member: set[str]) -> None:
    problem = replace(PROBLEM, **change)
    assert {name for name, belongs in CATEGORIES.items() if belongs(problem)} == member


def question(
    pid: str, direct: tuple[str, ...], *, difficult: bool = False, answer: int | None = 0
) -> Problem:
    """An A-OKVQA question with the options cab, bus, train and bike."""
    empty = dict.fromkeys(
        ("hint", "caption", "lecture", "solution", "subject", "topic", "category", "skill", "grade", "task"),
        "",
    )
    choices = ("cab", "bus", "train", "bike")
    return Problem(
        pid=pid, question="?", choices=choices, answer=answer, image=None, split="val",
        direct_answers=direct, difficult=difficult, **empty,
    )  # fmt: skip


def test_vqa_accuracy_is_the_official_one() -> None:
    problems = {
        "1": question("1", ("cab",) * 4 + ("bus",) * 2 + ("Cab",)),
        "2": question("2", ("cab",) * 10, difficult=True),
        "3": question("3", ("train",)),
        "4": question("4", ()),
    }
    # Difficult ones and those without direct answers do not count; a missing prediction is wrong.
    assert vqa_accuracy(problems, {"1": "cab", "2": "x", "3": "train", "4": "x"}) == pytest.approx(
        100 * (1 + 1 / 3) / 2
    )
    assert vqa_accuracy(problems, {"1": "bus"}) == pytest.approx(100 * (2 / 3) / 2)
    assert vqa_accuracy({"2": problems["2"]}, {"2": "cab"}) is None

    def official(dataset: dict[str, Problem], predictions: dict[str, str]) -> float:
        """eval_predictions.py of the data set's authors: every third of a match up to three, difficult ones left out."""
        kept = [p for p in dataset.values() if p.direct_answers and p.difficult is False]
        scores = [
            min(1.0, sum(predictions[p.pid] == answer for answer in p.direct_answers) / 3.0) for p in kept
        ]
        return sum(scores) / len(scores) * 100

    random = Random(0)
    words = ("cab", "bus", "train", "bike")
    many = {
        str(n): question(str(n), tuple(random.choices(words, k=10)), difficult=random.random() < 0.2)
        for n in range(200)
    }
    predictions = {pid: random.choice(words) for pid in many}
    assert vqa_accuracy(many, predictions) == pytest.approx(official(many, predictions))


def test_leaderboard_file_has_a_valid_choice_for_every_question() -> None:
    problems = {pid: question(pid, (), answer=None) for pid in ("a", "b", "c")}
    assert leaderboard(problems, {"a": 2, "b": None}) == {
        "a": {"multiple_choice": "train", "direct_answer": "train"},
        "b": {"multiple_choice": "cab", "direct_answer": ""},
        "c": {"multiple_choice": "cab", "direct_answer": ""},
    }
