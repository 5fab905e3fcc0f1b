"""rationale: fine-tunes a language model on the gold rationales; the result is the policy that RL improves."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ares.config.schema import Config, FitConfig
from ares.evaluation.rationales import rouge_l
from ares.steps.common.contract import StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.fitting import data_arguments, fit_data, saved
from ares.steps.common.inputs import base_policy, load_problems
from ares.steps.common.prompts import check_prompts
from ares.steps.common.rows import check_solutions

if TYPE_CHECKING:
    from ares.datamodules.problems import ProblemData


SPEC = StepSpec(
    name="rationale",
    reads=("data", "features"),
    writes=("policy",),
    settings=(
        *("seed", "text", "tokenizer", "rationale", "generate.batch_size", "trainer.precision"),
        *keys_of("model", "_target_ init arguments"),
    ),
    runs_on="device",
    place="start",
    shared=True,
    check_data=lambda config, source: check_data(config, source),
)


def rationale(config: Config, context: StepContext) -> StepResult:
    """Writes `policy/` with the weights of the best validation ROUGE-L of generated rationales."""
    from ares.datamodules.problems import RationaleData

    problems, splits = load_problems(config, context)
    policy = base_policy(config, context, problems, splits["train"], dropout=config.rationale.dropout)
    data = RationaleData(problems, splits, policy, **data_arguments(config, config.rationale))
    return fine_tune(config, context, config.rationale, data)


def check_data(config: Config, source: Mapping[str, Path]) -> None:
    """Raises AresError if there is nothing to train on, or a prompt that does not fit the model."""
    check_solutions(config, source)
    check_prompts(config, source)


def fine_tune(config: Config, context: StepContext, fit: FitConfig, data: "ProblemData") -> StepResult:
    """Fits a policy to rationales and saves it with dropout 0, as RL and generation need it."""
    metrics = fit_data(config, context, fit, data, score=rouge_l, metric="val/rouge_l")
    return saved(context, data.policy, metrics)
