"""Fits on lessons, which warm-up and self-training have in common."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.evaluation.checkers import CHECKERS
from ares.ranks import is_first
from ares.steps.common.contract import StepContext, StepResult, keys_of
from ares.steps.common.fitting import data_arguments, fit_data
from ares.storage.files import atomic_folder
from ares.storage.solutions import Lesson
from ares.types import Problem

if TYPE_CHECKING:
    from ares.datamodules.problems import LessonData
    from ares.models.policy import Policy
    from ares.modules.supervised import Score

# What a fit on lessons depends on.
FIT_SETTINGS = (
    *("seed", "text", "data.checker", "generate.batch_size", "trainer.precision"),
    *keys_of("selftrain", "epochs lr global_batch_size micro_batch_size micro_batch_tokens warmup_fraction"),
    *keys_of("selftrain", "decay weight_decay adam_beta2 gradient_clip dropout max_output_tokens"),
    *keys_of("selftrain", "eval_questions eval_every_epochs prompts"),
)


def fit_lessons(
    config: Config,
    context: StepContext,
    policy: "Policy",
    problems: Mapping[str, Problem],
    splits: Mapping[str, list[str]],
    lessons: Sequence[Lesson],
) -> StepResult:
    """Trains a policy on lessons and writes `policy/`, with the weights of the best validation accuracy."""
    from ares.datamodules.problems import LessonData

    data = LessonData(
        problems,
        splits,
        policy,
        lessons=lessons,
        prompts=config.selftrain.prompts,
        **data_arguments(config, config.selftrain),
    )
    score = checked_accuracy(data, config.data.checker)
    metrics = fit_data(
        config, context, config.selftrain, data, score=score, metric="val/accuracy", block="selftrain"
    )
    if not is_first():
        return StepResult({})
    folder = context.folder / "policy"
    with atomic_folder(folder) as temporary:
        policy.save(temporary)
    return StepResult({"policy": folder}, metrics)


def checked_accuracy(data: "LessonData", checker: str) -> "Score":
    """The share of validation texts whose answer is right by the checker.

    A text's problem is found by its reference; problems with equal references have equal answers.
    """
    examples, policy = data.examples("val").values(), data.policy
    targets = policy.encode_targets(list(examples), max_tokens=data.max_output_tokens)
    by_reference = {
        policy.decode(ids): data.problems[example.pid] for ids, example in zip(targets, examples, strict=True)
    }

    def score(references: Sequence[str], hypotheses: Sequence[str]) -> float:
        right = sum(
            CHECKERS[checker](by_reference[reference], hypothesis).correct
            for reference, hypothesis in zip(references, hypotheses, strict=True)
        )
        return right / max(1, len(references))

    return score
