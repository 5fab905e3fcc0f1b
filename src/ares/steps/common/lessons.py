"""Fits on lessons, which warm-up and self-training have in common."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ares.config.schema import Config, FitConfig
from ares.evaluation.checkers import CHECKERS
from ares.ranks import is_first
from ares.steps.common.contract import StepContext, StepResult
from ares.steps.common.fitting import data_arguments, fit_data
from ares.storage.files import atomic_folder
from ares.storage.solutions import Lesson
from ares.types import Problem

if TYPE_CHECKING:
    from ares.datamodules.problems import LessonData
    from ares.models.policy import Policy
    from ares.modules.supervised import Score

# What a fit on lessons depends on, besides its own block.
FIT_SETTINGS = ("seed", "text", "data.checker", "generate.batch_size", "trainer.precision")


def fit_lessons(
    config: Config,
    context: StepContext,
    block: str,
    policy: "Policy",
    problems: Mapping[str, Problem],
    splits: Mapping[str, list[str]],
    lessons: Sequence[Lesson],
) -> StepResult:
    """Trains a policy on lessons by the settings of a block and writes `policy/`, the best by validation accuracy."""
    from ares.datamodules.problems import LessonData

    fit: FitConfig = getattr(config, block)
    data = LessonData(
        problems,
        splits,
        policy,
        lessons=lessons,
        prompts=config.selftrain.prompts,
        **data_arguments(config, fit),
    )
    score = checked_accuracy(data, config.data.checker)
    metrics = fit_data(config, context, fit, data, score=score, metric="val/accuracy", block=block)
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
    examples, policy = list(data.examples("val").values())[: data.eval_questions], data.policy
    targets = policy.encode_targets(examples, max_tokens=data.max_output_tokens)
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
