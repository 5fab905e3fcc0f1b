"""generate: greedy rationales, the only ones there are; every later step reads them from here.

They are the policy's own or, with `generate.predictions`, those that the original ARES wrote.
"""

from collections.abc import Callable
from typing import TypeAlias

from ares.evaluation.published import read_published_rationales
from ares.ranks import is_first
from ares.schema import Config
from ares.step import Outputs, Run
from ares.steps.generation import rationales_of
from ares.steps.inputs import policy_of, problems_of
from ares.tables import write_rationales
from ares.text.sentences import repetition_rate
from ares.text.tokenizers import load_tokenizer
from ares.types import Problem, Rationale

# The rationales of a split's problems, in their order.
Source: TypeAlias = Callable[[str, list[Problem]], list[Rationale]]


def generate(config: Config, run: Run) -> Outputs:
    """Writes `rationales-<split>.parquet`: of train inside a round, of all splits at the end."""
    problems, splits = problems_of(config, run)
    rationales_of = _reader(run) if "published" in run.inputs else _writer(config, run)
    files, metrics = {}, {}
    for split in ("train",) if run.round else ("train", "val", "test"):
        rationales = rationales_of(split, [problems[pid] for pid in splits[split]])
        if not is_first():
            continue
        path = run.folder / f"rationales-{split}.parquet"
        write_rationales(path, rationales, run.provenance)
        files["rationales" if run.round else f"rationales-{split}"] = path
        count = max(1, len(rationales))
        metrics[f"{split}/truncated"] = sum(r.truncated for r in rationales) / count
        metrics[f"{split}/repetition"] = sum(repetition_rate(r.text) for r in rationales) / count
        metrics[f"{split}/tokens"] = sum(len(r.token_ids) for r in rationales) / count
    return Outputs(files, metrics)


def _writer(config: Config, run: Run) -> Source:
    """Generates the rationales of a split with the policy."""
    model, tokenizer = policy_of(config, run.inputs["policy"], dropout=0.0)

    def write(split: str, problems: list[Problem]) -> list[Rationale]:
        return rationales_of(config, run, model, tokenizer, problems, split)

    return write


def _reader(run: Run) -> Source:
    """Reads the rationales of a split from the original's files; their ids are those of the text, encoded again."""
    tokenizer = load_tokenizer(run.inputs["policy"])

    def read(split: str, problems: list[Problem]) -> list[Rationale]:
        texts = read_published_rationales(run.inputs["published"], split, problems) if problems else {}
        return [
            Rationale(pid, text, tuple(tokenizer(text)["input_ids"]), False) for pid, text in texts.items()
        ]

    return read
