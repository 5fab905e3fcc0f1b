"""LLaVA-Bench: free answers graded next to a reference answer.

Liu et al. 2023, "Visual Instruction Tuning". The judge reads a description of the image. The wording of our prompt is
ours; the original's is in its rule.json, and is used where that lies next to the questions.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ares.evaluation.benchmarks.base import Benchmark, Grading, Item, Scores
from ares.evaluation.benchmarks.grades import usable
from ares.teachers.parsing import FeedbackError
from ares.teachers.parsing.reasoning import without_reasoning
from ares.teachers.prompts.default import Prompt

_LOWEST, _HIGHEST = 1, 10


_TASK = (
    "Grade how helpful, relevant, accurate and detailed each assistant's answer is, from 1 to 10; the order of the two "
    "says nothing about their quality. Write the two grades, assistant 1 first, separated by a space, on the first line "
    "and nothing else in it. Then explain them."
)


def prompt(item: Item, output: str) -> Prompt:
    """The description, the question, the reference as assistant 1 and the output as assistant 2."""
    text = (
        f"[Image]\n{item.fields.get('caption') or item.hint}\n\n[Question]\n{item.question}\n\n"
        f"[Assistant 1]\n{item.answer}\n\n[Assistant 2]\n{output}\n\n{item.fields.get('rule') or _TASK}"
    )
    return Prompt(text, 150)


def read(text: str) -> list[float]:
    """The two grades of the first line; raises FeedbackError for any other first line."""
    first = without_reasoning(text).strip().split("\n")[0]
    grades = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", first)]
    if len(grades) != 2 or not re.fullmatch(r"[\d.,;/\s]*", first):
        raise FeedbackError("the first line does not hold two grades")
    if not all(_LOWEST <= grade <= _HIGHEST for grade in grades):
        raise FeedbackError("a grade is not between 1 and 10")
    return grades


def score_grades(items: Sequence[Item], grades: Mapping[str, list[float] | None]) -> Scores:
    """100 times the sum of the model's grades over that of the reference's, in all and by category."""
    found, failed = usable(items, grades)
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for item, pair in found:
        for name in ("score", item.fields.get("category", "")):
            sums[name] = [total + grade for total, grade in zip(sums[name], pair, strict=True)]
    ratios = {name: 100 * model / reference for name, (reference, model) in sums.items() if name}
    return Scores({"score": ratios.pop("score", 0.0), **dict(sorted(ratios.items()))}, failed)


BENCHMARK = Benchmark(rules=("teacher",), grading=Grading(prompt, read), score_grades=score_grades)
