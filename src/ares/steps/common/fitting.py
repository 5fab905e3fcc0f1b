"""Supervised fine-tuning for steps: trains the policy of a data module in place and returns the metrics."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ares.config.schema import Config, FitConfig
from ares.ranks import is_first
from ares.steps.common.contract import StepContext, StepResult
from ares.steps.common.inputs import text_of, trainer_arguments
from ares.storage.files import atomic_folder
from ares.types import Problem

if TYPE_CHECKING:
    from ares.datamodules.problems import ProblemData
    from ares.models.policy import Policy
    from ares.modules.supervised import Score


def data_arguments(config: Config, fit: FitConfig) -> dict[str, Any]:
    """The settings of a step's `ProblemData`: texts, lengths, and batches on each device."""
    devices = config.trainer.devices * config.trainer.num_nodes
    micro = min(fit.micro_batch_size, fit.global_batch_size // devices)
    return {
        "text": text_of(config),
        "max_output_tokens": fit.max_output_tokens,
        "eval_questions": fit.eval_questions,
        "micro": micro,
        "micro_tokens": fit.micro_batch_tokens,
        "accumulate": fit.global_batch_size // (micro * devices),
        "eval_batch": config.generate.batch_size,
        "seed": config.seed,
    }


def fit_data(
    config: Config,
    context: StepContext,
    fit: FitConfig,
    data: "ProblemData",
    *,
    score: "Score",
    metric: str,
    block: str | None = None,
) -> dict[str, float]:
    """Trains the data's policy on its targets and restores the weights of the best validation by `score`.

    `block` names the settings of the fit, None if the step does.
    """
    from ares.modules.supervised import fit_supervised

    return fit_supervised(
        data.policy,
        data,
        fit,
        score=score,
        metric=metric,
        block=block or context.key.rpartition("/")[2],
        devices=config.trainer.devices * config.trainer.num_nodes,
        checkpoints=context.checkpoints,
        checkpoint_minutes=config.trainer.checkpoint_minutes,
        trainer_arguments=trainer_arguments(config, context),
    )


def checked_accuracy(data: "ProblemData", is_right: Callable[[Problem, str], bool]) -> "Score":
    """The share of validation texts that answer their problems by `is_right(problem, text)`.

    A text's problem is found by its reference; problems with equal references have equal answers.
    """
    examples, policy = list(data.examples("val").values())[: data.eval_questions], data.policy
    targets = policy.encode_targets(examples, max_tokens=data.max_output_tokens)
    by_reference = {
        policy.decode(ids): data.problems[example.pid] for ids, example in zip(targets, examples, strict=True)
    }

    def score(references: Sequence[str], hypotheses: Sequence[str]) -> float:
        pairs = zip(references, hypotheses, strict=True)
        right = sum(is_right(by_reference[reference], hypothesis) for reference, hypothesis in pairs)
        return right / max(1, len(references))

    return score


def saved(context: StepContext, policy: "Policy", metrics: dict[str, float]) -> StepResult:
    """The result of a step that has trained a policy: the first rank writes `policy/`."""
    if not is_first():
        return StepResult({})
    folder = context.folder / "policy"
    with atomic_folder(folder) as temporary:
        policy.save(temporary)
    return StepResult({"policy": folder}, metrics)
