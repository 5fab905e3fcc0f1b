"""Any data set as a LightningDataModule, from its reader to batches; for training outside the steps too."""

from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.data import DataLoader

from ares.datamodules.base import Encoded, Seq2SeqData, encode_examples
from ares.text.prompts import build_example
from ares.types import Problem

Reader = Callable[[], tuple[dict[str, Problem], dict[str, list[str]]]]


class ProblemData(Seq2SeqData):
    """The problems of a data set in a prompt format: train reshuffled every epoch, val and test in order.

    `read` is a reader with its arguments bound, `partial(read_aokvqa, "data/aokvqa", rationale="all")`; it is
    called by `setup`. `rationales` (by pid) are for QCMG-A. Problems without an answer take no part in a format
    that answers. `features` looks image features up (`FeatureStore`), None without images.
    """

    def __init__(
        self,
        read: Reader,
        tokenizer: Any,
        *,
        prompt_format: str = "QCM-E",
        rationales: Mapping[str, str] | None = None,
        features: Any = None,
        max_input_tokens: int = 512,
        max_output_tokens: int = 512,
        micro: int = 8,
        accumulate: int = 1,
        eval_batch: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(
            [], [], features=features, pad_id=tokenizer.pad_token_id, micro=micro, accumulate=accumulate,
            eval_batch=eval_batch, seed=seed,
        )  # fmt: skip
        self.read, self.tokenizer, self.prompt_format, self.rationales = (
            read,
            tokenizer,
            prompt_format,
            rationales,
        )
        self.lengths = {"max_input_tokens": max_input_tokens, "max_output_tokens": max_output_tokens}
        self.test: list[Encoded] = []

    def setup(self, stage: str | None = None) -> None:
        """Reads the problems and encodes all splits."""
        problems, splits = self.read()
        self.train, self.val, self.test = (
            self._encoded([problems[pid] for pid in splits[split]]) for split in ("train", "val", "test")
        )

    def test_dataloader(self) -> DataLoader[Any]:
        """The test rows, longest prompts last."""
        return self.in_order(self.test)

    def _encoded(self, problems: list[Problem]) -> list[Encoded]:
        answers = "A" in self.prompt_format.split("-")[1]
        examples = {
            problem.pid: build_example(
                problem,
                self.prompt_format,
                rationale=None if self.rationales is None else self.rationales[problem.pid],
            )
            for problem in problems
            if problem.answer is not None or not answers
        }
        return encode_examples(self.tokenizer, examples, **self.lengths)
