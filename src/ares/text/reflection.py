"""Self-training by reflection: the lessons in a pool of sampled solutions, and the examples that teach them.

After R3V (MM-Self-Improve): from a question's right solutions a policy learns to write them (cot), from right and wrong
ones to correct a solution (refine) and to find the right answer among three (select). Pure functions; a pool is a
sequence of solutions, each identified by its row_id and never by its position.
"""

import hashlib
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ares.config.selftraining import ReflectionConfig
from ares.storage.solutions import Lesson, Solution
from ares.text.prompts import (
    ANSWER,
    SOLUTION,
    build_example,
    rationale_target,
    right_answer,
    strip_solution,
)
from ares.text.sentences import sentences_of
from ares.types import Example, Problem

# The kinds of lessons that a method builds from a pool.
METHODS: Mapping[str, tuple[str, ...]] = {
    "r3v": ("cot", "refine", "select"),
    "star": ("cot",),
    "star_dpo": ("cot",),
}
CANDIDATES = 3  # of a select lesson
_CUE = "Answer:"  # that QCMG-A ends in


def appended(pool: Sequence[Solution], new: Sequence[Solution]) -> list[Solution]:
    """The pool with further solutions after it. Raises ValueError if one of them is in it already."""
    known = {row.row_id for row in pool}
    if again := [row.row_id for row in new if row.row_id in known]:
        raise ValueError(f"solution {again[0]} is in the pool already")
    return [*pool, *new]


def of_latest(pool: Iterable[Solution], window: int | None) -> list[Solution]:
    """The solutions of the latest `window` iterations that are in the pool; all of them for None."""
    rows = list(pool)
    last = max((row.iteration for row in rows), default=0)
    return [row for row in rows if window is None or row.iteration > last - window]


def approved(
    pool: Iterable[Solution], scores: Mapping[str, Sequence[float] | None], threshold: float
) -> list[Solution]:
    """The pool without right solutions that have a sentence below `threshold`.

    `scores` has those of a solution's sentences by row_id. Right solutions without scores are left out, too; wrong ones
    stay as they are.
    """
    return [
        row for row in pool if not row.correct or ((own := scores.get(row.row_id)) and min(own) >= threshold)
    ]


def warmup_lessons(problems: Iterable[Problem]) -> list[Lesson]:
    """For each problem with a known answer: the answer alone and, where the source has a solution, the solution with it."""
    lessons = []
    for problem in problems:
        if answer := stated_answer(problem):
            if problem.has_solution:
                lessons.append(Lesson("given", problem.pid, (), f"{problem.solution} {answer}"))
            lessons.append(Lesson("answer", problem.pid, (), answer))
    return lessons


def stated_answer(problem: Problem) -> str | None:
    """The sentence that gives the right answer, None where it is not known."""
    right = right_answer(problem)
    return None if right is None else f"The answer is {right}."


def lessons_of(
    pool: Iterable[Solution],
    problems: Mapping[str, Problem],
    *,
    kinds: Collection[str] = METHODS["r3v"],
    seed: int = 0,
) -> list[Lesson]:
    """The lessons in a pool, at most one of each kind per question, in the order of the questions.

    cot: the latest right solution. refine: from the latest wrong to the latest right one. select: from three solutions
    (see `candidates`) to the right answer; `seed` decides their order. Solutions without a readable answer are neither
    right nor wrong.
    """
    by_pid: dict[str, list[Solution]] = {}
    for row in pool:
        by_pid.setdefault(row.pid, []).append(row)
    return [
        lesson
        for pid, rows in by_pid.items()
        for lesson in _lessons(problems[pid], rows, seed)
        if lesson.kind in kinds
    ]


def _lessons(problem: Problem, rows: Sequence[Solution], seed: int) -> list[Lesson]:
    newest = newest_first(rows)
    right = [row for row in newest if row.correct]
    wrong = [row for row in newest if not row.correct]
    answer, pid = stated_answer(problem), problem.pid
    if not right or answer is None:
        return []
    found = [Lesson("cot", pid, (), right[0].text)]
    if wrong:
        found.append(Lesson("refine", pid, (wrong[0].text,), right[0].text))
    if shown := candidates(newest):
        texts = [row.text for row in shown]
        random.Random(hashlib.sha256(f"{seed}/{pid}".encode()).digest()).shuffle(texts)
        found.append(Lesson("select", pid, tuple(texts), answer))
    return found


def newest_first(rows: Iterable[Solution]) -> list[Solution]:
    """The solutions with a readable answer by iteration, model and sample, the latest first; of equal texts only it."""
    order = sorted(rows, key=lambda row: (row.iteration, row.model, row.sample), reverse=True)
    first = {row.text: row for row in reversed(order)}
    return [row for row in order if row.answer is not None and first[row.text] is row]


def candidates(newest: Sequence[Solution]) -> list[Solution]:
    """The three latest solutions, one or two of them right: if they are all right or all wrong, the latest other one
    replaces the third. Empty if there are fewer than three, or no other one."""
    shown = list(newest[:CANDIDATES])
    if len(shown) < CANDIDATES:
        return []
    if len({row.correct for row in shown}) == 1:
        others = [row for row in newest if row.correct != shown[0].correct]
        shown[-1:] = others[:1]
    return shown if len(shown) == CANDIDATES else []


# --------------------------------------------------------------------------------------------------
# Examples
# --------------------------------------------------------------------------------------------------


def lesson_example(problem: Problem, lesson: Lesson, prompts: ReflectionConfig, **text: Any) -> Example:
    """The prompt and the target of a lesson; `text` as in `build_example` (use_caption, newline)."""
    newline = text.get("newline", "space")
    if lesson.kind == "answer":
        return replace(build_example(problem, "QCMG-A", rationale="", **text), target=lesson.target)
    if lesson.kind == "select":
        return replace(select_example(problem, lesson.given, prompts, **text), target=lesson.target)
    if lesson.kind == "refine":
        example = refine_example(problem, lesson.given[0], prompts, **text)
    else:
        example = build_example(problem, "QCM-E", **text)
    return replace(example, target=rationale_target(lesson.target, newline))


def select_example(
    problem: Problem, solutions: Sequence[str], prompts: ReflectionConfig, **text: Any
) -> Example:
    """The prompt that asks for the answer, given candidate solutions."""
    shown = [
        prompts.candidate.replace("{number}", str(number)).replace("{solution}", solution)
        for number, solution in enumerate(strip_each(solutions), start=1)
    ]
    return build_example(problem, "QCMG-A", rationale="\n".join(shown), **text)


def refine_example(problem: Problem, solution: str, prompts: ReflectionConfig, **text: Any) -> Example:
    """The prompt that asks for a better solution than the given one."""
    given = prompts.refine.replace("{solution}", strip_each([solution])[0])
    return _asking_for_solution(build_example(problem, "QCMG-A", rationale=given, **text))


def reasoning_sentences(text: str) -> list[str]:
    """The sentences of a solution that can be scored: without its `Solution:` and the sentence that gives the answer."""
    return [sentence for sentence in strip_solution(sentences_of(text)) if not ANSWER.search(sentence)]


def strip_each(solutions: Sequence[str]) -> list[str]:
    """Each solution without the `Solution:` that opens it."""
    return [strip_solution([solution])[0] for solution in solutions]


def _asking_for_solution(example: Example) -> Example:
    """An example of QCMG-A that asks for a solution instead: a chat model finds what is given in its question."""
    shorter = example.shorter
    assert shorter is not None
    return replace(
        example,
        prompt=example.prompt.removesuffix(_CUE) + SOLUTION,
        question=f"{example.question}\n{example.rationale}",
        rationale=None,
        shorter=partial(_shorter, shorter),
    )


def _shorter(shorter: Any, length: int) -> Example:
    return _asking_for_solution(shorter(length))
