"""What each supervised stage trains on: the problems of the named data set as a LightningDataModule."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from ares.datamodules.base import Seq2SeqData, encode_examples
from ares.text.prompts import build_examples
from ares.types import Example, Problem


class ProblemData(Seq2SeqData, ABC):
    """A data set's train and val problems as prompts and targets; which ones and how, a stage's own class says.

    `problems` and `splits` are what the readers of `ares.data` return. `text` goes to `build_example`
    (use_caption, newline), `batches` to `Seq2SeqData`. Validation takes the first `eval_questions` of val.
    """

    def __init__(
        self,
        problems: Mapping[str, Problem],
        splits: Mapping[str, list[str]],
        tokenizer: Any,
        *,
        text: Mapping[str, Any],
        max_input_tokens: int,
        max_output_tokens: int,
        eval_questions: int,
        **batches: Any,
    ) -> None:
        super().__init__([], [], pad_id=tokenizer.pad_token_id, **batches)
        self.problems, self.splits, self.tokenizer, self.text = problems, splits, tokenizer, text
        self.lengths = {"max_input_tokens": max_input_tokens, "max_output_tokens": max_output_tokens}
        self.eval_questions = eval_questions

    @abstractmethod
    def examples(self, split: str) -> dict[str, Example]:
        """The examples of a split by pid, in the split's order."""

    def setup(self, stage: str | None = None) -> None:
        """Encodes the examples, once."""
        if not self.train:
            val = dict(list(self.examples("val").items())[: self.eval_questions])
            self.train = encode_examples(self.tokenizer, self.examples("train"), **self.lengths)
            self.val = encode_examples(self.tokenizer, val, **self.lengths)


class RationaleData(ProblemData):
    """rationale: the question, and the gold rationale to write."""

    def examples(self, split: str) -> dict[str, Example]:
        """All problems of the split."""
        return build_examples(self.problems, self.splits[split], "QCM-E", **self.text)


class CorrectionData(RationaleData):
    """sft: the rationales that the Teacher repaired (by pid) in the place of the gold ones; val keeps its own."""

    def __init__(self, *arguments: Any, corrected: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.corrected = corrected

    def examples(self, split: str) -> dict[str, Example]:
        """Of train, the problems that have a repaired rationale."""
        gold = super().examples(split)
        if split != "train":
            return gold
        return {
            pid: Example(example.prompt, _prefixed(self.corrected[pid]))
            for pid, example in gold.items()
            if pid in self.corrected
        }


class AnswerData(ProblemData):
    """lora: the question with the model's own rationale (by split and pid), and the answer to give."""

    def __init__(self, *arguments: Any, rationales: Mapping[str, Mapping[str, str]], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.rationales = rationales

    def examples(self, split: str) -> dict[str, Example]:
        """The problems whose answer is known."""
        known = [pid for pid in self.splits[split] if self.problems[pid].answer is not None]
        return build_examples(self.problems, known, "QCMG-A", rationales=self.rationales[split], **self.text)


def _prefixed(rationale: str) -> str:
    # As the gold ones are.
    return rationale if rationale.startswith("Solution:") else f"Solution: {rationale}"
