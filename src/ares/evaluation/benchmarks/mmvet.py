"""MM-Vet: free answers that need several capabilities at once, graded from 0 to 1.

Yu et al. 2024, "MM-Vet: Evaluating Large Multimodal Models for Integrated Capabilities". Scores of different Teachers are
not comparable: the original's judge is gpt-4-0613, and the wording of its prompt is its own.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ares.evaluation.benchmarks.base import Benchmark, Grading, Item, Scores
from ares.evaluation.benchmarks.grades import mean, number_after, usable
from ares.teachers.prompts.default import Prompt

_EXAMPLES = (
    ("How much is x?", "x = 2 <OR> 2", "2", "1.0"),
    ("How much are x and y?", "2 <AND> 5", "x is 2; I cannot read y.", "0.5"),
    ("What does the sign say?", "no parking", "It says that stopping is allowed.", "0.0"),
    (
        "Why is the scene odd?",
        "a man irons clothes on the back of a moving car",
        "Somebody irons outdoors.",
        "0.4",
    ),
)


def prompt(item: Item, output: str) -> Prompt:
    """A table of graded examples whose last row is to be completed."""
    cells = [(*row[:3], row[3]) for row in _EXAMPLES] + [(item.question, item.answer, output, "?")]
    rows = "\n".join(" | ".join(" ".join(cell.split()) for cell in row) for row in cells)
    text = (
        "Grade how far a prediction agrees with the ground truth: 0.0 (not at all), 0.1, ..., 1.0 (completely). Parts of a "
        "ground truth that are joined by <AND> must all be in the prediction; of those joined by <OR> one is enough.\n\n"
        f"Question | Ground truth | Prediction | Grade\n--- | --- | --- | ---\n{rows}\n\n"
        'Give the grade of the last row only, in the form "Grade: 0.7".'
    )
    return Prompt(text, 8)


def score_grades(items: Sequence[Item], grades: Mapping[str, list[float] | None]) -> Scores:
    """100 times the mean grade, in all and by capability; a question counts for each of its capabilities."""
    found, failed = usable(items, grades)
    by_capability = defaultdict(list)
    for item, [grade] in found:
        names = item.fields.get("capability") or item.fields.get("category", "")
        for name in re.findall(r"\w+", names):
            by_capability[name].append(grade)
    details = {name: 100 * mean(values) for name, values in sorted(by_capability.items())}
    return Scores({"score": 100 * mean([grade for _, [grade] in found]), **details}, failed)


BENCHMARK = Benchmark(
    rules=("teacher",), grading=Grading(prompt, number_after("grade", 0, 1)), score_grades=score_grades
)
