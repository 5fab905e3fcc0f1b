"""The training data of each supervised step, as LightningDataModules."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ares.config.selftraining import ReflectionConfig
from ares.datamodules.supervised import SupervisedData, encode
from ares.models.policy import Policy
from ares.ranks import is_first
from ares.storage.solutions import Lesson
from ares.text.prompts import build_examples, rationale_target, right_answer, shortened_note
from ares.text.reflection import lesson_example, stated_answer
from ares.text.tokenizers import check_represented
from ares.types import AresError, Example, Problem


class ProblemData(SupervisedData, ABC):
    """A data set's train and val problems as prompts and targets; a subclass per step selects them.

    `problems` and `splits` come from the readers of `ares.data`. `text` goes to `build_example`
    (use_caption, newline), `batches` to `SupervisedData`. Validation uses the first `eval_questions` of val.
    """

    def __init__(
        self,
        problems: Mapping[str, Problem],
        splits: Mapping[str, list[str]],
        policy: Policy,
        *,
        text: Mapping[str, Any],
        max_output_tokens: int,
        eval_questions: int,
        **batches: int,
    ) -> None:
        super().__init__(pad_id=policy.pad_id, **batches)
        self.problems, self.splits, self.policy, self.text = problems, splits, policy, text
        self.max_output_tokens, self.eval_questions = max_output_tokens, eval_questions

    needs: ClassVar[str]  # what a question must have to be trained on

    @abstractmethod
    def examples(self, split: str) -> dict[str, Example]:
        """The examples of a split by pid, in the split's order."""

    def setup(self, stage: str | None = None) -> None:
        """Encodes the examples, once."""
        if not hasattr(self, "train"):
            val = list(self.examples("val").values())[: self.eval_questions]
            train = list(self.examples("train").values())
            if not train:
                raise AresError(
                    f"There is nothing to train on: no question of the train split has {self.needs}."
                )
            texts = {"prompts": [e.prompt for e in train], "target texts": [e.target for e in train]}
            for what, rows in texts.items():
                # A line break is written as a backslash and an "n", which T5 does not know and need not know.
                lines = [row.replace("\\n", " ") for row in rows]
                _warn(check_represented(self.policy.tokenizer, lines, what))
            before = self.policy.shortened
            self.train = encode(self.policy, train, max_output_tokens=self.max_output_tokens)
            self.val = encode(self.policy, val, max_output_tokens=self.max_output_tokens)
            if shortened := self.policy.shortened - before:
                _warn(shortened_note(shortened))


def _warn(note: str | None) -> None:
    if note and is_first():
        print(f"warning: {note}", file=sys.stderr)


class RationaleData(ProblemData):
    """rationale: the question, and the gold rationale as the target."""

    needs = "a solution"

    def examples(self, split: str) -> dict[str, Example]:
        """The problems of the split that have a solution; reports how many do not."""
        pids = self.splits[split]
        known = [pid for pid in pids if self.problems[pid].has_solution]
        if missing := len(pids) - len(known):
            _warn(f"{missing:,} of {len(pids):,} {split} problems have no solution and are left out.")
        return build_examples(self.problems, known, "QCM-E", **self.text)


class CorrectionData(RationaleData):
    """sft: the rationales that the Teacher repaired (by pid) instead of the gold ones; val keeps its own."""

    needs = "a repaired rationale"

    def __init__(self, *arguments: Any, corrected: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.corrected = corrected

    def examples(self, split: str) -> dict[str, Example]:
        """Of train, the problems that have a repaired rationale."""
        if split != "train":
            return super().examples(split)
        newline = self.text["newline"]
        repaired = [pid for pid in self.splits[split] if pid in self.corrected]
        return {
            pid: replace(example, target=rationale_target(self.corrected[pid], newline))
            for pid, example in build_examples(self.problems, repaired, "QCM-E", **self.text).items()
        }


class AnswerData(ProblemData):
    """lora: the question with the model's own rationale (by split and pid), and the answer as the target."""

    needs = "a known answer"

    def __init__(self, *arguments: Any, rationales: Mapping[str, Mapping[str, str]], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.rationales = rationales

    def examples(self, split: str) -> dict[str, Example]:
        """The problems whose answer is known."""
        known = [pid for pid in self.splits[split] if right_answer(self.problems[pid]) is not None]
        return build_examples(self.problems, known, "QCMG-A", rationales=self.rationales[split], **self.text)


class LessonData(ProblemData):
    """warmup, selftrain: lessons; validation asks for a solution that ends in the answer."""

    needs = "a lesson"

    def __init__(
        self, *arguments: Any, lessons: Sequence[Lesson], prompts: ReflectionConfig, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self.lessons, self.prompts = lessons, prompts

    def examples(self, split: str) -> dict[str, Example]:
        """Of train the lessons, numbered; of another split the problems whose answer is known, by pid."""
        if split == "train":
            return {str(number): self._example(lesson) for number, lesson in enumerate(self.lessons)}
        found = {}
        for pid in self.splits[split]:
            problem = self.problems[pid]
            if answer := stated_answer(problem):
                solution = f"{problem.solution} {answer}" if problem.has_solution else answer
                found[pid] = self._example(Lesson("given", pid, (), solution))
        return found

    def _example(self, lesson: Lesson) -> Example:
        return lesson_example(self.problems[lesson.pid], lesson, self.prompts, **self.text)
