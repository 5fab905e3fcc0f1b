"""ppo: reinforcement learning over the scored rollouts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ares.config.schema import Config
from ares.datamodules.rollouts import RolloutBuffer
from ares.models.heads import SharedBackboneValue, take_trunk
from ares.models.t5.loading import load_value, save_policy, value_from_policy
from ares.modules.ppo import run_ppo
from ares.ranks import is_first
from ares.steps.common.contract import StepContext, StepResult
from ares.steps.common.generation import encode_prompts
from ares.steps.common.inputs import examples_of, features_of, load_problems, policy_of, trainer_arguments
from ares.storage.files import atomic_folder
from ares.storage.tables import read_feedback, read_rollouts
from ares.types import Feedback, Problem, Rollout


def ppo(config: Config, context: StepContext) -> StepResult:
    """Writes `policy/` and `value/`."""
    problems, _ = load_problems(config, context)
    policy, tokenizer = policy_of(config, context.inputs["policy"], dropout=0.0)
    value, trained = _value_models(config, context, policy)
    rollouts, feedback = read_rollouts(context.inputs["rollouts"]), read_feedback(context.inputs["feedback"])
    figures = run_ppo(
        policy,
        trained,
        _buffer(config, problems, tokenizer, rollouts, feedback),
        config.rl,
        seed=config.seed,
        features=features_of(context),
        checkpoints=context.checkpoints,
        trainer_arguments=trainer_arguments(config, context),
    )
    if not is_first():
        return StepResult({})
    if config.rl.share_trunk:
        take_trunk(value.cpu(), policy)
    files = _write(context.folder, policy, tokenizer, value)
    return StepResult(files, {**figures, **buffer_figures(rollouts, feedback)})


def _value_models(config: Config, context: StepContext, policy: Any) -> tuple[Any, Any]:
    """The value model to be saved, and the one to be trained: the same, or its head on the policy's body."""
    if "value" in context.inputs:
        value: Any = load_value(context.inputs["value"], dropout=0.0, features="features" in context.inputs)
    else:
        value = value_from_policy(policy, seed=config.seed)
    # Objectives that compare rationales leave the value model as it is.
    device = policy.device if config.rl.objective == "ppo" else "cpu"
    if config.rl.share_trunk:
        return value, SharedBackboneValue(policy, value.cpu().v_head).to(device)
    return value, value.to(device)


def _write(folder: Path, policy: Any, tokenizer: Any, value: Any) -> dict[str, Path]:
    files = {name: folder / name for name in ("policy", "value")}
    with atomic_folder(files["policy"]) as temporary:
        save_policy(policy, tokenizer, temporary)
    with atomic_folder(files["value"]) as temporary:
        value.save_pretrained(temporary)
    return files


def _buffer(
    config: Config,
    problems: Mapping[str, Problem],
    tokenizer: Any,
    rollouts: list[Rollout],
    feedback: list[Feedback],
) -> RolloutBuffer:
    examples = examples_of(problems, {row.pid for row in rollouts}, "QCM-E", config)
    return RolloutBuffer(
        rollouts,
        {row.row_id: row.scores for row in feedback if row.status == "ok" and row.scores is not None},
        encode_prompts(tokenizer, examples, config.text.max_input_tokens),
        pad_id=tokenizer.pad_token_id,
        neutral=config.rl.neutral,
        holdout=config.rl.holdout,
    )


def buffer_figures(rollouts: list[Rollout], feedback: list[Feedback]) -> Mapping[str, float]:
    """Figures of what was trained on, beside the reward."""
    count = max(1, len(rollouts))
    return {
        "rollouts/length": sum(len(row.token_ids) for row in rollouts) / count,
        "rollouts/truncated": sum(row.truncated for row in rollouts) / count,
        "rollouts/quarantined": sum(row.status == "quarantined" for row in feedback) / count,
    }
