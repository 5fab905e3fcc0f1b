"""Lessons from hand-written pools, with the results worked out by hand, and the prompts that teach them."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.config.selftraining import ReflectionConfig
from ares.storage.solutions import Lesson, Solution
from ares.text.prompts import fitted
from ares.text.reflection import (
    appended,
    approved,
    candidates,
    lesson_example,
    lessons_of,
    newest_first,
    of_latest,
    reasoning_sentences,
    select_example,
    warmup_lessons,
)
from tests.support.problems import make_problem

PROMPTS = ReflectionConfig()
PROBLEMS = {str(pid): make_problem(str(pid)) for pid in range(60)}


def solution(iteration: int, sample: int, answer: str | None, pid: str = "1", text: str = "") -> Solution:
    """A solution whose text gives its identity; A is right."""
    own = text or f"Text {iteration}{sample}. The answer is ({answer})."
    return Solution(iteration, iteration - 1, pid, sample, own, answer, answer == "A", 5)


# Question 1: right 10, 21 and wrong 11, 12, 20; unreadable 22. Question 2: right only. Question 3: wrong only.
POOL = [
    solution(1, 0, "A"),
    solution(1, 1, "B"),
    solution(1, 2, "C"),
    *(solution(1, sample, "A", "2") for sample in range(3)),
    *(solution(1, sample, "B", "3") for sample in range(3)),
    solution(2, 0, "B"),
    solution(2, 1, "A"),
    solution(2, 2, None),
]


def test_lessons_of_a_pool_worked_out_by_hand() -> None:
    found = lessons_of(POOL, PROBLEMS)
    assert [(lesson.kind, lesson.pid) for lesson in found] == [
        ("cot", "1"),
        ("refine", "1"),
        ("select", "1"),
        ("cot", "2"),
    ]
    cot, refine, select, other = found
    assert (cot.given, cot.target) == ((), "Text 21. The answer is (A).")
    assert (refine.given, refine.target) == (("Text 20. The answer is (B).",), "Text 21. The answer is (A).")
    # The three latest with an answer: 21 (right), 20 and 12 (wrong).
    assert sorted(text[:7] for text in select.given) == ["Text 12", "Text 20", "Text 21"]
    assert select.target == "The answer is (A)."
    assert other.target == "Text 12. The answer is (A)."


def test_order_of_the_pool_does_not_matter() -> None:
    by_question = [row for pid in "123" for row in reversed(POOL) if row.pid == pid]
    assert lessons_of(by_question, PROBLEMS) == lessons_of(POOL, PROBLEMS)


def test_third_candidate_gives_way_to_the_latest_of_the_other_kind() -> None:
    rows = [
        solution(1, 0, "B"),
        solution(1, 1, "B"),
        *(solution(2, sample, "A", text=f"Right {sample}.") for sample in range(3)),
    ]
    shown = candidates(newest_first(rows))
    assert [row.text for row in shown] == ["Right 2.", "Right 1.", "Text 11. The answer is (B)."]
    assert candidates(newest_first(rows[2:])) == []
    assert candidates(newest_first([rows[0], rows[2]])) == []


def test_equal_texts_count_once_as_the_latest() -> None:
    rows = [solution(1, 0, "A", text="Same."), solution(2, 0, "A", text="Same."), solution(1, 1, "B")]
    assert [row.row_id for row in newest_first(rows)] == ["2/1/1/0", "1/0/1/1"]
    assert [lesson.kind for lesson in lessons_of(rows, PROBLEMS)] == ["cot", "refine"]


def test_star_learns_right_solutions_alone() -> None:
    assert [lesson.kind for lesson in lessons_of(POOL, PROBLEMS, kinds=("cot",))] == ["cot", "cot"]


def test_window_counts_the_latest_iterations() -> None:
    assert {row.iteration for row in of_latest(POOL, 1)} == {2}
    assert of_latest(POOL, 2) == of_latest(POOL, None) == POOL
    assert of_latest([], 1) == []


def test_right_solutions_stay_if_the_teacher_approves_of_every_sentence() -> None:
    scores = {"2/1/1/1": [1.0, 0.4], "1/0/1/0": [0.5, 1.0], "1/0/2/0": None}
    kept = approved(POOL, scores, 0.5)
    assert [row.row_id for row in kept if row.correct] == ["1/0/1/0"]
    assert [row for row in kept if not row.correct] == [row for row in POOL if not row.correct]
    assert lessons_of(kept, PROBLEMS)[0].target == "Text 10. The answer is (A)."


def test_pool_is_append_only() -> None:
    assert appended(POOL[:3], POOL[3:]) == POOL
    with pytest.raises(ValueError, match="1/0/1/2 is in the pool already"):
        appended(POOL, [solution(3, 0, "A"), POOL[2]])


def test_sentences_to_score_leave_out_cue_and_answer() -> None:
    text = "Solution: A fern has leaves. A rock has none. The answer is (A)."
    assert reasoning_sentences(text) == ["A fern has leaves.", "A rock has none."]
    assert reasoning_sentences("The answer is (A).") == []


ROWS = st.builds(
    lambda iteration, sample, pid, answer: solution(iteration, sample, answer, pid),
    st.integers(1, 4),
    st.integers(0, 3),
    st.sampled_from("123"),
    st.sampled_from(["A", "B", "C", None]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, unique_by=lambda row: row.row_id, max_size=40), st.integers(0, 3))
def test_lessons_hold_what_their_kind_promises(rows: list[Solution], seed: int) -> None:
    by_text = {(row.pid, row.text): row for row in rows}
    found = lessons_of(rows, PROBLEMS, seed=seed)
    assert len({(lesson.kind, lesson.pid) for lesson in found}) == len(found)
    for lesson in found:
        shown = [by_text[lesson.pid, text] for text in lesson.given]
        right = sum(row.correct for row in shown)
        if lesson.kind == "select":
            assert len(set(lesson.given)) == 3
            assert right in (1, 2)
            assert lesson.target == "The answer is (A)."
        else:
            assert by_text[lesson.pid, lesson.target].correct
            assert right == 0
            assert len(shown) == (lesson.kind == "refine")
    # A question with a right solution always has a lesson, and one without never.
    assert {lesson.pid for lesson in found} == {row.pid for row in rows if row.correct}


def test_position_of_the_right_candidate_gives_nothing_away() -> None:
    rows = [
        solution(1, sample, "A" if sample == 2 else "B", str(pid)) for pid in range(60) for sample in range(3)
    ]
    places = [
        [text[:7] for text in lesson.given].index("Text 12")
        for lesson in lessons_of(rows, PROBLEMS, kinds=("select",))
    ]
    assert all(10 <= places.count(place) <= 30 for place in range(3))


# --------------------------------------------------------------------------------------------------
# Examples
# --------------------------------------------------------------------------------------------------

QUESTION = "Question: Which is a plant? Context: N/A Options: (A) a fern (B) a rock"


@pytest.mark.parametrize(
    ("lesson", "prompt", "target"),
    [
        (Lesson("cot", "1", (), "Solution: S. The answer is (A)."), "Solution:", "Solution: S. The answer is (A)."),
        (Lesson("given", "1", (), "S. The answer is (A)."), "Solution:", "Solution: S. The answer is (A)."),
        (Lesson("answer", "1", (), "The answer is (A)."), "Answer:", "The answer is (A)."),
        (
            Lesson("refine", "1", ("Solution: W. The answer is (B).",), "S. The answer is (A)."),
            "Possibly wrong: W. The answer is (B). Solution:",
            "Solution: S. The answer is (A).",
        ),
        (
            Lesson("select", "1", ("Solution: U.", "V.", "W."), "The answer is (A)."),
            "Candidate 1: U. Candidate 2: V. Candidate 3: W. Answer:",
            "The answer is (A).",
        ),
    ],
)  # fmt: skip
def test_prompt_and_target_of_a_lesson(lesson: Lesson, prompt: str, target: str) -> None:
    example = lesson_example(make_problem(), lesson, PROMPTS)
    assert example.prompt == f"{QUESTION} {prompt}"
    assert example.target == target
    assert example.pid == "1"


def test_chat_model_finds_given_solutions_in_its_question_or_as_the_rationale() -> None:
    problem = make_problem()
    refine = lesson_example(problem, Lesson("refine", "1", ("W.",), "S."), PROMPTS)
    assert refine.rationale is None
    assert refine.question.endswith("\nPossibly wrong: W.")
    select = select_example(problem, ["U.", "V."], PROMPTS)
    assert select.rationale == "Candidate 1: U.\nCandidate 2: V."


def test_long_context_gives_way_before_the_given_solutions() -> None:
    problem = replace(make_problem(), hint="A hint of many words. " * 20)
    lesson = Lesson("refine", "1", ("A wrong solution.",), "A right one.")
    example = fitted(lesson_example(problem, lesson, PROMPTS), lambda shown: len(shown.prompt) <= 160)
    assert example is not None
    assert len(example.prompt) > 140
    assert example.prompt.endswith("Possibly wrong: A wrong solution. Solution:")
    assert example.target == "Solution: A right one."


def test_prompts_that_show_solutions_can_be_changed() -> None:
    problem, prompts = make_problem(), ReflectionConfig("Repair this: {solution}", "[{number}] {solution}")
    assert select_example(problem, ["U.", "V."], prompts).rationale == "[1] U.\n[2] V."
    lesson = Lesson("refine", "1", ("W.",), "S.")
    assert lesson_example(problem, lesson, prompts).prompt == f"{QUESTION} Repair this: W. Solution:"


def test_braces_in_a_solution_are_text() -> None:
    example = select_example(make_problem(), ["a {solution} {number}"], PROMPTS)
    assert example.rationale == "Candidate 1: a {solution} {number}"


def test_warmup_teaches_answers_and_given_solutions() -> None:
    free = {"choices": (), "answer": None, "direct_answers": ("12", "twelve"), "solution": ""}
    problems = [make_problem("1"), make_problem("2", **free), make_problem("3", answer=None)]
    assert warmup_lessons(problems) == [
        Lesson("given", "1", (), "A fern is a plant. The answer is (A)."),
        Lesson("answer", "1", (), "The answer is (A)."),
        Lesson("answer", "2", (), "The answer is 12."),
    ]
