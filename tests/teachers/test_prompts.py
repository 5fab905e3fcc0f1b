"""The prompts: the paper's against the record, ours by what they must hold."""

import ast
import json
import re

import pytest

from ares.data.scienceqa import read_scienceqa
from ares.teachers.parsing import FeedbackError
from ares.teachers.prompts import default as prompts
from ares.teachers.prompts import paper
from ares.text.prompts import strip_solution
from ares.types import Problem


def problem(**changes) -> Problem:
    blank = dict.fromkeys(
        ("caption", "lecture", "subject", "topic", "category", "skill", "grade", "task"), ""
    )
    values = {
        "pid": "1",
        "question": "Is ice a solid?",
        "choices": ("yes", "no"),
        "answer": 0,
        "hint": "",
        "solution": "Ice is a solid.",
        "image": None,
        "split": "train",
    }
    return Problem(**{**blank, **values, **changes})


@pytest.fixture(scope="module")
def record(shared):
    return json.loads((shared / "golden" / "teacher_prompts.json").read_text())


@pytest.fixture(scope="module")
def published(shared):
    return read_scienceqa(shared / "data" / "scienceqa")[0]


def recorded_problem(case, published) -> Problem:
    """The published problem, or for one that is not in the sample what its prompt says of it."""
    if case["pid"] in published:
        return published[case["pid"]]
    match = re.search(
        r"Question: (.*)\nOptions: (\[.*\])\nHint: (.*)\nAnswer: (.*?)\n\n[{R]", case["prompt"], re.DOTALL
    )
    assert match
    choices = ast.literal_eval(match[2])
    choices = choices[0] if isinstance(choices[0], list) else choices
    return problem(question=match[1], choices=tuple(choices), hint=match[3], answer=choices.index(match[4]))


def test_paper_score_prompt(record, published):
    cases = record["sentence_feedback"]
    assert len(cases) == 18
    assert sum(case["pid"] in published for case in cases) >= 5
    for case in cases:
        lines = case["rationale_file"].strip().split("\n")[1:-1]
        sentences = [line.rstrip(",").removesuffix(": xxx")[1:-1] for line in lines]
        expected = re.sub(r"Options: \[(\[.*\])\]\n", r"Options: \1\n", case["prompt"])
        found = paper.score(recorded_problem(case, published), [sentences], case["has_image"])
        assert found.text == expected
        assert found.schema is None


def test_paper_correction_prompt(record, published):
    assert len(record["correction"]) == 18
    for case in record["correction"]:
        found = paper.correct(recorded_problem(case, published), case["pred"], case["has_image"])
        assert found.text == case["prompt"]


def test_paper_reply_must_repeat_the_sentences():
    asked = [["Ice is cold.", "So yes."]]
    assert paper.read_scores('{\n"Ice is cold.": 0.5,\n"So yes.": 1.0\n}', asked) == [[0.5, 1.0]]
    [error] = paper.read_scores('{\n"So yes.": 1.0,\n"Ice is cold.": 0.5\n}', asked)
    assert isinstance(error, FeedbackError)


def test_score_prompt_contains_question_answer_and_sentences():
    asked = [["Ice is cold.", "So yes."], ["Ice\nmelts."]]
    found = prompts.score(problem(hint="Think of water."), asked, has_image=True)
    for part in (
        "Is ice a solid?",
        "Think of water.",
        "(A) yes (B) no",
        "Answer: (A) yes",
        "about the image",
    ):
        assert part in found.text
    assert "1.1 Ice is cold.\n1.2 So yes.\n2.1 Ice melts.\n" in found.text
    assert "image" not in prompts.score(problem(), asked, has_image=False).text
    assert found.schema is not None
    assert found.answer_tokens > 0


def test_gold_solution_is_in_no_prompt():
    secret = problem(solution="THE SOLUTION", lecture="THE LECTURE")
    for form in (prompts, paper):
        texts = [
            form.score(secret, [["Yes."]], False).text,
            form.correct(secret, "Yes.", False).text,
            form.judge(secret, "Yes.", "No.", False).text,
        ]
        assert not any("THE SOLUTION" in text or "THE LECTURE" in text for text in texts)


def test_replies_of_the_schema_are_read():
    rows = [{"id": "1.1", "score": 0.5}, {"id": "1.2", "score": 1}, {"id": "2.1", "score": 0.25}]
    asked = [["a", "b"], ["c"]]
    assert prompts.read_scores(json.dumps({"scores": rows}), asked) == [[0.5, 1.0], [0.25]]
    assert prompts.read_scores("Here:\n" + json.dumps(rows[::-1]), asked) == [[0.5, 1.0], [0.25]]
    first, second = prompts.read_scores(json.dumps({"scores": rows[1:]}), asked)
    assert isinstance(first, FeedbackError)
    assert second == [0.25]
    quoted = [{**row, "score": str(row["score"])} for row in rows]
    assert all(isinstance(part, FeedbackError) for part in prompts.read_scores(json.dumps(quoted), asked))


def test_solution_prefix_is_removed():
    assert strip_solution(["Solution: Ice is cold.", "Solution: no."]) == [
        "Ice is cold.",
        "Solution: no.",
    ]
    for kept in ([], [""], ["Ice is cold, so yes."], ["The solution: yes."]):
        assert strip_solution(kept) == kept


def test_empty_rationale_can_be_repaired():
    assert "Rationale: (none" in prompts.correct(problem(), "", False).text


def test_withheld_answer_is_left_out():
    assert "Answer: (" not in prompts.score(problem(answer=None), [["Yes."]], False).text
    assert "Answer: \n" in paper.score(problem(answer=None), [["Yes."]], False).text


def test_question_without_choices_has_its_right_answer():
    free = problem(choices=(), answer=None, direct_answers=("12", "a dozen"))
    assert prompts.describe(free).endswith("?\nAnswer: 12")
