"""generate: greedy rationales for all later steps.

The policy writes them; with `generate.predictions` they are read from the files of the original ARES.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeAlias

from ares.config.schema import Config
from ares.original.predictions import published_files, read_published_rationales
from ares.ranks import is_first
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.generation import check_engine, engine_of, greedy_rationales
from ares.steps.common.inputs import load_problems, policy_of
from ares.storage.tables import write_rationales
from ares.text.sentences import repetition_rate
from ares.types import Problem, Rationale

SPEC = StepSpec(
    name="generate",
    reads=lambda config, place: (
        ("data", "policy") if config.generate.predictions else ("data", "features", "policy")
    ),
    # In a round `rationales` (of the train split), at the end one file per split.
    writes=("rationales", "rationales-train", "rationales-val", "rationales-test"),
    settings=("text", "model._target_", "engine._target_", "generate.max_new_tokens", "generate.batch_size"),
    runs_on="device",
    shared=True,
    files=lambda config: published_files(config.generate.predictions),
    check=check_engine,
)


# (split, its problems) -> their rationales, in the same order
Source: TypeAlias = Callable[[str, list[Problem]], list[Rationale]]


def generate(config: Config, context: StepContext) -> StepResult:
    """Writes `rationales-<split>.parquet`, in a round for train, at the end for every split."""
    problems, splits = load_problems(config, context)
    published = "published" in context.inputs
    files, metrics = {}, {}
    with nullcontext(_reader(context)) if published else _writer(config, context) as rationales_of:
        written = {
            split: rationales_of(split, [problems[pid] for pid in splits[split]])
            for split in (("train",) if context.round else ("train", "val", "test"))
        }
    for split, rationales in written.items():
        if not is_first():
            continue
        path = context.folder / f"rationales-{split}.parquet"
        write_rationales(path, rationales, context.provenance)
        files["rationales" if context.round else f"rationales-{split}"] = path
        count = max(1, len(rationales))
        metrics[f"{split}/truncated"] = sum(r.truncated for r in rationales) / count
        metrics[f"{split}/repetition"] = sum(repetition_rate(r.text) for r in rationales) / count
        metrics[f"{split}/tokens"] = sum(len(r.token_ids) for r in rationales) / count
    return StepResult(files, metrics)


@contextmanager
def _writer(config: Config, context: StepContext) -> Iterator[Source]:
    """Generates the rationales of a split with the policy."""
    policy = policy_of(config, context, context.inputs["policy"])
    with engine_of(config, context, policy, batch_size=config.generate.batch_size) as engine:
        yield lambda split, problems: greedy_rationales(config, context, engine, problems, split)


def _reader(context: StepContext) -> Source:
    """Reads the rationales of a split from the original's files; the text is encoded again for the token ids."""
    from ares.text.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(context.inputs["policy"])

    def read(split: str, problems: list[Problem]) -> list[Rationale]:
        texts = read_published_rationales(context.inputs["published"], split, problems) if problems else {}
        return [
            Rationale(pid, text, tuple(tokenizer(text)["input_ids"]), False) for pid, text in texts.items()
        ]

    return read
