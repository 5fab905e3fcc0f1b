"""Scores worked out by hand, for every rule, and where suites disagree about the same outputs."""

import inspect

import pytest

from ares.evaluation.benchmarks.base import NAMES, Item, benchmark_of
from ares.evaluation.benchmarks.letters import RULES
from ares.evaluation.benchmarks.open_answers import open_answer
from ares.evaluation.benchmarks.rotations import rotated
from ares.teachers.parsing import FeedbackError
from ares.types import AresError


def item(index: int, answer: str, *choices: str, question: str = "Q?", **fields: str) -> Item:
    return Item(str(index), question, choices, answer, fields={"file": "questions", **fields})


def scored(name: str, rule: str, items: list[Item], *outputs: str) -> tuple[dict[str, float], int]:
    score = benchmark_of(name).score
    assert score is not None
    found = score(items, {one.index: text for one, text in zip(items, outputs, strict=True)}, rule)
    return dict(found.metrics), found.failed


def test_scorers_are_short() -> None:
    for name in NAMES:
        module = inspect.getmodule(benchmark_of(name).score or benchmark_of(name).score_grades)
        assert module is not None
        assert len(inspect.getsource(module).splitlines()) <= 60, name


def test_every_benchmark_has_one_way_to_be_scored() -> None:
    for name in NAMES:
        found = benchmark_of(name)
        assert (found.score is None) == (found.score_grades is not None) == (found.grading is not None)


POPE = [
    (item(0, "yes", category="random,popular"), "Yes"),
    (item(1, "yes", category="random"), "Yes, there is."),
    (item(2, "no", category="adversarial"), "There is a dog."),
    (item(3, "no", category="random"), "No."),
    (item(4, "no", category="popular"), "yes"),
    (item(5, "yes", category="popular"), "no"),
]


_POPE_METRICS = ("score", "accuracy", "precision", "recall", "f1", "yes_ratio")


@pytest.mark.parametrize(
    ("rule", "expected", "failed"),
    [
        # Only the bare words are read: rows 0 (right), 4 and 5 (wrong); the others are in neither P nor R.
        ("lmms_eval", (100 / 6, 100 / 6, 50, 50, 50, 100 * 2 / 6), 3),
        # Row 0 counts twice; row 2 counts as no in P and R, and is wrong all the same: 3 hits, 1 false, 1 missed of 7.
        ("vlmevalkit", (75, 100 * 4 / 7, 75, 75, 75, 100 * 4 / 7), 1),
        # Row 2 says neither, which is yes: 2 hits, 2 false, 1 missed.
        ("llava", (400 / 7, 50, 50, 200 / 3, 400 / 7, 100 * 4 / 6), 0),
    ],
)
def test_pope(rule: str, expected: tuple[float, ...], failed: int) -> None:
    metrics, unread = scored("pope", rule, [row for row, _ in POPE], *(text for _, text in POPE))
    assert tuple(metrics[name] for name in _POPE_METRICS) == pytest.approx(expected)
    assert unread == failed


def test_pope_by_category() -> None:
    metrics, _ = scored("pope", "vlmevalkit", [row for row, _ in POPE], *(text for _, text in POPE))
    # popular: a hit (row 0), a false yes (4), a missed yes (5); random: two hits and a right no.
    assert (metrics["popular/f1"], metrics["random/f1"], metrics["adversarial/f1"]) == (50, 100, 0)


def test_pope_takes_the_category_from_the_name_of_the_original_file() -> None:
    metrics, _ = scored("pope", "llava", [item(1, "yes", file="coco_pope_random")], "yes")
    assert metrics["random/f1"] == 100


MME = [
    (item(0, "Yes", category="count", question_id="a", image_path="a"), "Yes"),
    (item(1, "No", category="count", question_id="a", image_path="a"), "No."),
    (item(2, "Yes", category="count", question_id="b", image_path="b"), "yes it is"),
    (item(3, "No", category="count", question_id="b", image_path="b"), "Well, no"),
    (item(4, "Yes", category="code_reasoning", question_id="c", image_path="c"), "n"),
    (item(5, "No", category="code_reasoning", question_id="c", image_path="c"), "no"),
]


@pytest.mark.parametrize(
    ("rule", "count", "code", "failed"),
    [
        # "Well, no" has neither in its first four characters: acc 75, acc+ 50. "n" is no: acc 50, acc+ 0.
        ("lmms_eval", 125, 50, 1),
        # "Well, no" is no: acc 100, acc+ 100. "n" is no word of the two.
        ("vlmevalkit", 200, 50, 1),
    ],
)
def test_mme(rule: str, count: float, code: float, failed: int) -> None:
    metrics, unread = scored("mme", rule, [row for row, _ in MME], *(text for _, text in MME))
    assert (metrics["count"], metrics["code_reasoning"], unread) == (count, code, failed)
    assert (metrics["perception"], metrics["cognition"], metrics["score"]) == (count, code, count + code)


def test_mme_needs_pairs() -> None:
    with pytest.raises(AresError, match="count/b has not two questions"):
        scored("mme", "lmms_eval", [row for row, _ in MME[:3]], "yes", "yes", "yes")


def test_rotations_move_options_up_and_the_answer_with_them() -> None:
    assert [(one.index, one.choices, one.answer) for one in rotated([item(5, "B", "cat", "dog", "cow")])] == [
        ("5", ("cat", "dog", "cow"), "B"),
        ("1000005", ("cow", "cat", "dog"), "C"),
        ("2000005", ("dog", "cow", "cat"), "A"),
    ]


def test_mmbench_circular_and_vanilla() -> None:
    asked = rotated([item(5, "A", "cat", "dog", category="x"), item(7, "B", "cat", "dog", category="y")])
    assert [(one.index, one.choices, one.answer) for one in asked] == [
        ("5", ("cat", "dog"), "A"),
        ("1000005", ("dog", "cat"), "B"),
        ("7", ("cat", "dog"), "B"),
        ("1000007", ("dog", "cat"), "A"),
    ]
    assert rotated(asked) == asked  # a file that has rotations is left alone
    # Always "A" is right for question 5 as it is, and for the rotation of question 7; (B) then A is right for 7.
    metrics, failed = scored("mmbench", "vlmevalkit", asked, "A", "A", "(B)", "A.")
    assert (metrics["score"], metrics["circular"], metrics["vanilla"], failed) == (50, 50, 100, 0)
    assert (metrics["circular/x"], metrics["circular/y"], metrics["vanilla/x"]) == (0, 100, 100)


def test_mmbench_without_rotations_is_vanilla() -> None:
    metrics, failed = scored("mmbench", "vlmevalkit", [item(5, "A", "cat", "dog")], "It is hard to say.")
    assert metrics == {"score": 0, "vanilla": 0}
    assert failed == 1  # VLMEvalKit would ask a judge, and draw at random in the end
    with pytest.raises(AresError, match="no number as its index"):
        scored("mmbench", "ares", [Item("x", "Q?", ("a",), "A")], "A")


@pytest.mark.parametrize(
    ("output", "lmms_eval", "vlmevalkit", "ares"),
    [
        ("B", "B", "B", "B"),
        ("B. dog", "B", "B", "B"),
        ("The answer is B", None, "B", "B"),  # lmms-eval sees T
        (
            "It is a dog.",
            None,
            "B",
            None,
        ),  # VLMEvalKit: the text of one option, and no longer than twice both
        ("It is a big dog.", None, None, None),
        ("dog", None, "B", "B"),
        ("B is what I believe it to be", "B", None, None),  # VLMEvalKit: not among the last four words
        ("A dog", "A", "A", None),  # the article is taken for the letter
        ("A or B", "A", None, None),
        ("", None, None, None),
    ],
)
def test_letters(output: str, lmms_eval: str | None, vlmevalkit: str | None, ares: str | None) -> None:
    asked = item(0, "B", "cat", "dog")
    assert {name: rule(asked, output) for name, rule in RULES.items()} == {
        "lmms_eval": lmms_eval,
        "vlmevalkit": vlmevalkit,
        "ares": ares,
    }


@pytest.mark.parametrize(
    ("name", "column"), [("seed", "data_type"), ("scienceqa", "subject"), ("aokvqa", "split")]
)
def test_letters_by_group(name: str, column: str) -> None:
    asked = [item(n, "B", "cat", "dog", **{column: group}) for n, group in enumerate("xxy")]
    assert scored(name, "lmms_eval", asked, "B", "A", "?") == ({"score": 100 / 3, "x": 50, "y": 0}, 1)


# Of "B", "The answer is B" and "It is a dog.", where (B) a dog is right: lmms-eval's first letters are B, T and I;
# VLMEvalKit takes the text of the one option; MMMU wants more than five words for that.
_LETTERS_RIGHT = {"lmms_eval": 1, "vlmevalkit": 3, "ares": 2, "mmmu": 2, "mathvista": 2}


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (name, rule)
        for name in ("seed", "scienceqa", "aokvqa", "mmbench", "mmmu", "mathvista")
        for rule in benchmark_of(name).rules
    ],
)
def test_every_rule_of_a_benchmark_with_letters(name: str, rule: str) -> None:
    asked = [item(n, "B", "cat", "dog") for n in range(3)]
    metrics, failed = scored(name, rule, asked, "B", "The answer is B", "It is a dog.")
    right = _LETTERS_RIGHT[rule]
    assert (metrics["score"], failed) == (pytest.approx(100 * right / 3), 3 - right)


def test_mmmu() -> None:
    options = ("a red cube", "a blue ball", "no")
    asked = [
        *(item(n, answer, *options, id=f"validation_Art_Theory_{n}") for n, answer in enumerate("CBBA")),
        item(4, "['24', '24.0 feet']", id="validation_Math_1"),
        item(5, "mitochondria", id="validation_Math_2"),
        item(6, "0.5", id="validation_Math_3"),
        item(7, "A", *options, id="validation_Math_4"),
    ]
    outputs = (
        "(A) or rather (C)",  # the last one
        "I think B is right",
        "In the picture I see a blue ball",  # an option's text, in an output of more than five words
        "a red cube",  # too short for its text to count
        "Adding both, the width is 24.00",
        "The organelle is the Mitochondria.",
        "So p = 0.51",
        "no idea?",
    )
    metrics, failed = scored("mmmu", "mmmu", asked, *outputs)
    # Art: three of four; mathematics: two of four. Rows 3 and 7 are the ones that MMMU answers by drawing a letter.
    assert metrics == {"score": 62.5, "macro": 62.5, "Art_Theory": 75, "Math": 50}
    assert failed == 2
    assert open_answer("") is None


def test_mathvista() -> None:
    asked = [
        item(0, "14", answer_type="integer", task="VQA"),
        item(1, "0.6", answer_type="float", precision="1.0", task="VQA"),
        item(2, "[2007, 2008]", answer_type="list", task="FQA"),
        item(3, "B", "3/11", "8/11", answer_type="text", task="FQA"),
        item(4, "14", answer_type="integer", task="GPS"),
    ]
    outputs = (
        "The answer is 14.",
        "So the answer is 0.63.",
        "It peaks in [2007,2008].",
        "The answer is (B).",
        "Fourteen or so, I would guess from what I see",
    )
    metrics, failed = scored("mathvista", "mathvista", asked, *outputs)
    assert metrics == {"score": 80, "FQA": 100, "GPS": 0, "VQA": 100}
    assert failed == 1  # the original asks GPT-4 where the answer is


def graded(name: str, items: list[Item], *grades: list[float] | None) -> tuple[dict[str, float], int]:
    score = benchmark_of(name).score_grades
    assert score is not None
    found = score(items, {one.index: own for one, own in zip(items, grades, strict=True)})
    return dict(found.metrics), found.failed


def test_mmvet() -> None:
    asked = [
        item(0, "x", capability="rec,ocr"),
        item(1, "x", capability='["rec"]'),
        item(2, "x", category="ocr"),
    ]
    assert graded("mmvet", asked, [1.0], [0.5], None) == ({"score": 75, "ocr": 100, "rec": 75}, 1)


def test_mmhal() -> None:
    asked = [item(n, "x", question_type=kind) for n, kind in enumerate(("attribute", "counting", "counting"))]
    metrics, failed = graded("mmhal", asked, [6], [2], [3])
    assert metrics == pytest.approx(
        {"score": 11 / 3, "hallucination": 100 / 3, "attribute": 6, "counting": 2.5}
    )
    assert failed == 0


def test_llava_bench() -> None:
    asked = [item(0, "x", category="conv"), item(1, "x", category="detail"), item(2, "x", category="conv")]
    # The reference's grade comes first: 14 of 18 points, without the question whose reply could not be used.
    metrics, failed = graded("llava_bench", asked, [8, 4], [10, 10], None)
    assert metrics == pytest.approx({"score": 1400 / 18, "conv": 50, "detail": 100})
    assert failed == 1


@pytest.mark.parametrize(
    ("name", "reply", "grades"),
    [
        ("mmvet", "Grade: 0.7", [0.7]),
        ("mmvet", "<think>Grade: 0.2</think>0.7", [0.7]),
        ("mmvet", "Grade: 7", None),
        ("mmvet", "It is good.", None),
        ("mmhal", "Mostly right.\nRating: 4", [4]),
        ("mmhal", "Rating: 4, or rating: 5", None),
        ("llava_bench", "8 9.5\nBoth are good.", [8, 9.5]),
        ("llava_bench", "Scores: 8 9", None),
        ("llava_bench", "8\n9", None),
        ("llava_bench", "8 11", None),
    ],
)
def test_replies_of_the_teacher_are_read_strictly(name: str, reply: str, grades: list[float] | None) -> None:
    grading = benchmark_of(name).grading
    assert grading is not None
    if grades is not None:
        assert grading.read(reply) == grades
        return
    with pytest.raises(FeedbackError):
        grading.read(reply)


def test_prompts_of_graded_benchmarks_hold_question_reference_and_output() -> None:
    for name in NAMES:
        if grading := benchmark_of(name).grading:
            text = grading.prompt(item(0, "the reference", question="Why?"), "the output").text
            assert all(part in text for part in ("Why?", "the reference", "the output"))
