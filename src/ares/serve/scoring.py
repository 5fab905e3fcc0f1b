"""Scores of a rationale's sentences where they cost nothing: by a Teacher that works in this process."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ares.config.options import FeaturesConfig
from ares.steps.common.answering import Answering
from ares.steps.common.asking import make_teacher, teacher_class
from ares.steps.prepare import prepared, read_problems
from ares.teachers.offline.local import LocalTeacher
from ares.types import AresError, Problem
from ares.vision.images import open_image


class Scorer:
    """A run's Teacher and its data: problems that are known, for examples, and for what the Teacher knows of them."""

    def __init__(self, teacher: LocalTeacher | None, problems: Mapping[str, Problem]) -> None:
        self.teacher, self.problems = teacher, problems
        self._by_text: dict[tuple[object, ...], list[Problem]] = defaultdict(list)
        for problem in problems.values():
            self._by_text[_text_of(problem)].append(problem)

    def known(self, problem: Problem) -> Problem:
        """The run's own problem with the same texts and pictures, or the given one."""
        alike = self._by_text.get(_text_of(problem), [])
        return next((own for own in alike if _pixels(own) == _pixels(problem)), problem)

    def scores(self, problem: Problem, sentences: Sequence[str]) -> list[float] | None:
        """A score in [0, 1] per sentence; None where the Teacher knows too little about the problem."""
        if self.teacher is None:
            return None
        try:
            return self.teacher.grade(self.teacher.evidence(problem), sentences)
        except AresError:
            return None


def scorer_of(found: Answering) -> Scorer:
    """The scorer of a run; one without problems of an exported folder, or where the run's data are gone."""
    config = found.config
    if not found.steps:
        return Scorer(None, {})
    runs = found.root.parents[len(Path(config.run).parts) - 1]
    config = replace(config, features=FeaturesConfig(), paths=replace(config.paths, runs=str(runs)))
    try:
        problems, splits = read_problems(config.data, prepared(config, make=False)["data"])
        teacher = make_teacher(config) if issubclass(teacher_class(config), LocalTeacher) else None
    except AresError:
        return Scorer(None, {})
    held_out = {pid: problems[pid] for split in ("test", "val") for pid in splits[split]}
    return Scorer(teacher, held_out)  # type: ignore[arg-type]


def _text_of(problem: Problem) -> tuple[object, ...]:
    return problem.question, problem.choices, problem.hint


def _pixels(problem: Problem) -> list[bytes]:
    return [open_image(path).tobytes() for path in problem.images]
