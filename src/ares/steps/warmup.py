"""warmup: fine-tunes the base model on given solutions and answers; the first model of self-training."""

from collections.abc import Mapping
from pathlib import Path

from ares.config.schema import Config
from ares.steps.common.contract import StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.inputs import base_policy, load_problems
from ares.steps.common.lessons import FIT_SETTINGS, fit_lessons
from ares.steps.common.prompts import check_prompts
from ares.steps.common.rows import check_answers
from ares.text.reflection import warmup_lessons

SPEC = StepSpec(
    name="warmup",
    reads=("data", "features"),
    writes=("policy",),
    settings=(
        *FIT_SETTINGS,
        "rationale",
        "tokenizer",
        *keys_of("model", "_target_ init arguments"),
    ),
    runs_on="device",
    place="start",
    folder="warmup",
    shared=True,
    check_data=lambda config, source: check_data(config, source),
)


def check_data(config: Config, source: Mapping[str, Path]) -> None:
    """Raises AresError if there is nothing to train on, or a prompt that does not fit the model."""
    check_answers(config, source)
    check_prompts(config, source)


def warmup(config: Config, context: StepContext) -> StepResult:
    """Writes `policy/`, which writes solutions that end in an answer."""
    problems, splits = load_problems(config, context)
    policy = base_policy(config, context, problems, splits["train"], dropout=config.rationale.dropout)
    lessons = warmup_lessons(problems[pid] for pid in splits["train"])
    return fit_lessons(config, context, "rationale", policy, problems, splits, lessons)
