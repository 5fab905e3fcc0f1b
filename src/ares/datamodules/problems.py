"""The training data of each supervised step, as LightningDataModules."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ares.datamodules.supervised import SupervisedData, encode
from ares.models.policy import Policy
from ares.text.prompts import build_examples, rationale_target
from ares.types import Example, Problem


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

    @abstractmethod
    def examples(self, split: str) -> dict[str, Example]:
        """The examples of a split by pid, in the split's order."""

    def setup(self, stage: str | None = None) -> None:
        """Encodes the examples, once."""
        if not hasattr(self, "train"):
            val = list(self.examples("val").values())[: self.eval_questions]
            train = list(self.examples("train").values())
            self.train = encode(self.policy, train, max_output_tokens=self.max_output_tokens)
            self.val = encode(self.policy, val, max_output_tokens=self.max_output_tokens)


class RationaleData(ProblemData):
    """rationale: the question, and the gold rationale as the target."""

    def examples(self, split: str) -> dict[str, Example]:
        """All problems of the split."""
        return build_examples(self.problems, self.splits[split], "QCM-E", **self.text)


class CorrectionData(RationaleData):
    """sft: the rationales that the Teacher repaired (by pid) instead of the gold ones; val keeps its own."""

    def __init__(self, *arguments: Any, corrected: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.corrected = corrected

    def examples(self, split: str) -> dict[str, Example]:
        """Of train, the problems that have a repaired rationale."""
        gold = super().examples(split)
        if split != "train":
            return gold
        newline = self.text["newline"]
        return {
            pid: replace(example, target=rationale_target(self.corrected[pid], newline))
            for pid, example in gold.items()
            if pid in self.corrected
        }


class AnswerData(ProblemData):
    """lora: the question with the model's own rationale (by split and pid), and the answer as the target."""

    def __init__(self, *arguments: Any, rationales: Mapping[str, Mapping[str, str]], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.rationales = rationales

    def examples(self, split: str) -> dict[str, Example]:
        """The problems whose answer is known."""
        known = [pid for pid in self.splits[split] if self.problems[pid].answer is not None]
        return build_examples(self.problems, known, "QCMG-A", rationales=self.rationales[split], **self.text)
