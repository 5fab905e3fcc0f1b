"""Fits on lessons, which warm-up and self-training have in common."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ares.config.schema import Config, FitConfig
from ares.evaluation.checkers import CHECKERS
from ares.steps.common.contract import StepContext, StepResult
from ares.steps.common.fitting import checked_accuracy, data_arguments, fit_data, saved
from ares.storage.solutions import Lesson
from ares.types import Problem

if TYPE_CHECKING:
    from ares.models.policy import Policy

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
    check = CHECKERS[config.data.checker]
    score = checked_accuracy(data, lambda problem, text: check(problem, text).correct)
    metrics = fit_data(config, context, fit, data, score=score, metric="val/accuracy", block=block)
    return saved(context, policy, metrics)
