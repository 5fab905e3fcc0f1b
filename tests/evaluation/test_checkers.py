"""Checkers of answers: what each reads, what is right, and what fails instead of being guessed."""

import pytest

from ares.evaluation.checkers import CHECKERS, Checked
from ares.evaluation.numbers import number_in
from ares.text.prompts import build_example
from tests.support.problems import make_problem

FERN = make_problem(choices=("a fern", "a rock", "an owl"), answer=0)
ANGLE = make_problem(choices=("30°", "60°", "2√3"), answer=1)


def free(*right: str) -> dict:
    return {"choices": (), "answer": None, "direct_answers": right}


@pytest.mark.parametrize(
    ("output", "parsed"),
    [
        ("The answer is (A).", "A"),
        ("Ferns are green. The answer is (B).", "B"),
        ("Answer:\nA", "A"),
        ("**Answer:** B. a rock", "B"),
        ("Answer: **B**. It is a rock.", "B"),
        ("\\boxed{\\text{C}}", "C"),
        ("A", "A"),
        ("(C) an owl", "C"),
        ("A fern", "A"),
        ("a rock.", "B"),
        ("The correct answer is option B", "B"),
        ("The answer is B, because A is a plant.", "B"),
        ("The answer is (A). I repeat: the answer is (A).", "A"),
        ("The answer is (A). No, the answer is (B).", None),
        ("The answer is A or B", None),
        ("The answer is (A) or (B).", None),
        ("The answer is (D).", None),  # beyond the choices
        ("An owl sits on a rock next to a fern in the forest.", None),
        ("", None),
    ],
)
def test_mcq(output: str, parsed: str | None) -> None:
    assert CHECKERS["mcq"](FERN, output) == Checked(parsed, parsed == "A", parsed is None)


@pytest.mark.parametrize(
    ("output", "parsed"),
    [
        ("Answer: B", "B"),
        ("The answer is 60 degrees.", "B"),
        ("The answer is $60^{\\circ}$.", "B"),
        ("\\boxed{2\\sqrt{3}}", "C"),
        ("The answer is 45°.", None),
    ],
)
def test_geoqa_with_choices(output: str, parsed: str | None) -> None:
    assert CHECKERS["geoqa"](ANGLE, output) == Checked(parsed, parsed == "B", parsed is None)


@pytest.mark.parametrize(
    ("checker", "right", "output", "expected"),
    [
        ("geoqa", "60°", "Answer: 60", Checked("60", True, False)),
        ("relaxed_number", "100", "The answer is 105.", Checked("105", True, False)),
        ("relaxed_number", "100", "The answer is 105.1.", Checked("105.1", False, False)),
        ("relaxed_number", "0.57", "Answer: 0.55", Checked("0.55", True, False)),
        ("relaxed_number", "62", "62%", Checked("62", True, False)),
        ("relaxed_number", "0", "Answer: 0", Checked("0", True, False)),
        ("relaxed_number", "0", "Answer: 0.01", Checked("0.01", False, False)),
        ("relaxed_number", "Italy", "The answer is Italy, since its bar is highest.", Checked("italy", True, False)),
        ("relaxed_number", "U.S.", "The answer is U.S.", Checked("u.s", True, False)),
        ("relaxed_number", "5 million", "Answer: 5", Checked("5", False, False)),
        ("relaxed_number", "3", "Looking at the chart, there are three bars in all, it seems", Checked(None, False, True)),
        ("integer", "7", "8 - 1 = 7 objects remain.\nAnswer:\n7", Checked("7", True, False)),
        ("integer", "7", "seven", Checked("7", True, False)),
        ("integer", "7", "Answer: 7.5", Checked(None, False, True)),
        ("integer", "7", "Answer: 7 or 8", Checked(None, False, True)),
        ("integer", "7", "8 - 1 = 7", Checked(None, False, True)),
        ("tabmwp", "1,234", "The answer is 1234.", Checked("1234", True, False)),
        ("tabmwp", "2.40", "Answer: $2.4", Checked("2.4", True, False)),
        ("tabmwp", "1/3", "Answer: 0.333", Checked("0.333", True, False)),
        ("tabmwp", "1/3", "Answer: 0.33", Checked("0.33", False, False)),
        ("tabmwp", "shortage", "The answer is Shortage.", Checked("shortage", True, False)),
        ("yes_no", "Yes", "Yes, there is a dog.", Checked("yes", True, False)),
        ("yes_no", "no", "The answer is no. Yes would be wrong.", Checked("no", True, False)),
        ("yes_no", "no", "Yes and no.", Checked(None, False, True)),
        ("yes_no", "no", "There is not.", Checked(None, False, True)),
        ("yes_no", "no", "I know nothing", Checked(None, False, True)),
    ],
)  # fmt: skip
def test_free_answers(checker: str, right: str, output: str, expected: Checked) -> None:
    assert CHECKERS[checker](make_problem(**free(right)), output) == expected


def test_several_right_answers_are_equally_right() -> None:
    problem = make_problem(**free("green line", "3"))
    assert CHECKERS["relaxed_number"](problem, "Answer: 3").correct
    assert CHECKERS["relaxed_number"](problem, "Answer: Green line").correct


def test_tabmwp_and_yes_no_read_choices() -> None:
    assert CHECKERS["tabmwp"](FERN, "The answer is (A).") == Checked("A", True, False)
    problem = make_problem(choices=("Yes", "No"), answer=1)
    assert CHECKERS["yes_no"](problem, "No") == Checked("no", True, False)


@pytest.mark.parametrize(
    ("text", "number"),
    [("−4", -4.0), ("-$3", -3.0), ("1/2 cup", 0.5), ("12cm", 12.0), ("\\frac{3}{4}", 0.75), ("3:30", None),
     ("25-30", None), ("two hundred", None), ("5k", None), ("1/0", None), ("3 x 4", None), ("1,23", None)],
)  # fmt: skip
def test_numbers(text: str, number: float | None) -> None:
    assert number_in(text) == number


def test_prompt_and_target_of_a_question_without_choices() -> None:
    example = build_example(make_problem(**free("12")), "QCM-ALE")
    assert example.prompt == "Question: Which is a plant? Context: N/A Solution:"
    assert example.target == "The answer is 12. BECAUSE: A fern is a plant."
    withheld = make_problem(**free())
    assert build_example(withheld, "QCM-A").target == ""
