"""What a benchmark is: one module of this package with a `BENCHMARK`."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ares.teachers.prompts.default import Prompt


@dataclass(frozen=True)
class Item:
    """A question of a benchmark's file.

    `choices` are in the order of their letters. `answer` is a letter for a question with choices, otherwise yes or no or
    a text; empty if it is withheld. `fields` are all columns of the file except images, as texts.
    """

    index: str
    question: str
    choices: tuple[str, ...]
    answer: str
    hint: str = ""
    images: tuple[Path, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """The metrics of a benchmark by name, `score` first; `failed`: outputs without a readable answer, which are wrong."""

    metrics: Mapping[str, float]
    failed: int


@dataclass(frozen=True)
class Grading:
    """How the Teacher grades an output: the `prompt` of (item, output), and the numbers that `read` finds in a reply.

    `read` raises FeedbackError for any other reply.
    """

    prompt: Callable[[Item, str], Prompt]
    read: Callable[[str], list[float]]


# The scores of outputs by the index of their questions, with a rule.
Scorer = Callable[[Sequence[Item], Mapping[str, str], str], Scores]
# The scores of grades by the index of their questions; None where the Teacher's reply could not be used.
GradeScorer = Callable[[Sequence[Item], Mapping[str, list[float] | None]], Scores]


@dataclass(frozen=True)
class Benchmark:
    """`rules`: the names of the suites whose rules `score` knows.

    A benchmark whose answers the Teacher grades has `grading` and `score_grades` instead of `score`. `yes_no`: whether
    questions without choices are answered with yes or no.
    """

    rules: tuple[str, ...]
    score: Scorer | None = None
    yes_no: bool = False
    grading: Grading | None = None
    score_grades: GradeScorer | None = None


NAMES = (
    *("pope", "mme", "mmbench", "seed", "mmmu", "mmvet", "mathvista", "mmhal", "llava_bench"),
    *("scienceqa", "aokvqa"),
)


def benchmark_of(name: str) -> Benchmark:
    """The benchmark of a name in `NAMES`."""
    return importlib.import_module(f"ares.evaluation.benchmarks.{name}").BENCHMARK


def share(right: Sequence[bool]) -> float:
    """The percentage of those that are right, 0 of none."""
    return 100 * sum(right) / len(right) if right else 0.0


def by_group(right: Sequence[bool], groups: Sequence[str]) -> dict[str, float]:
    """The percentage in each group, in the order of their names; rows without a group are in none."""
    found = sorted({group for group in groups if group})
    return {
        group: share([one for one, own in zip(right, groups, strict=True) if own == group]) for group in found
    }


def scores_by(groups: Sequence[str], right: Sequence[bool], failed: int) -> Scores:
    """The percentage of right outputs in all (`score`) and in each group."""
    return Scores({"score": share(right), **by_group(right, groups)}, failed)
