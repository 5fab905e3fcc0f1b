"""ppo: reinforcement learning over the scored rollouts."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.data.holdout import is_held_out
from ares.ranks import is_first
from ares.steps.common.contract import StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.inputs import examples_of, load_problems, policy_of, trainer_arguments
from ares.steps.common.reward_terms import (
    check_vocabulary,
    needs_reward_model,
    reward_model_of,
    reward_terms,
)
from ares.steps.common.rows import train_questions
from ares.storage.files import atomic_folder, atomic_path
from ares.storage.tables import read_feedback
from ares.types import AresError, Feedback, Problem

if TYPE_CHECKING:
    from ares.datamodules.buffer import RolloutBuffer
    from ares.models.policy import Policy, ValueModel
    from ares.storage.flat import FlatRollouts


SPEC = StepSpec(
    name="ppo",
    reads=("data", "features", "policy", "value?", "rollouts", "feedback"),
    writes=("policy", "value", "advantages"),
    settings=(
        "seed",
        "text",
        "model._target_",
        "data.checker",
        "trainer.precision",
        *keys_of(
            "rl",
            "neutral granularity kl_in kl_coef objective gamma lam whiten clip_range value_clip_range vf_coef",
        ),
        *keys_of("rl", "log_ratio_clamp target_kl sampler_correction ppo_epochs recompute"),
        *keys_of("rl", "value_warmup_epochs value_lr lr warmup_fraction decay weight_decay adam_eps"),
        *keys_of(
            "rl",
            "rewards max_new_tokens value_init gradient_clip global_batch_size micro_batch_size micro_batch_tokens holdout share_trunk lora",
        ),
    ),
    runs_on="device",
    place="round",
    folder="ppo",
    files=lambda config: reward_model_of(config),
    check=lambda config: check_objective(config),
    check_data=lambda config, source: check_training(config, source),
    headline=("train/score", "train/kl_k3"),
)


def ppo(config: Config, context: StepContext) -> StepResult:
    """Writes `policy/`, `value/` and, for the report, `advantages.parquet`."""
    from ares.modules.advantages import RecordAdvantages
    from ares.modules.ppo import run_ppo
    from ares.storage.flat import read_flat_rollouts

    problems, _ = load_problems(config, context)
    policy = policy_of(config, context, context.inputs["policy"])
    value = _value_model(config, context, policy)
    rollouts = read_flat_rollouts(context.inputs["rollouts"], context.folder)
    feedback = read_feedback(context.inputs["feedback"])
    recorded = context.checkpoints / "advantages.parquet"
    arguments = trainer_arguments(config, context)
    arguments["callbacks"].append(RecordAdvantages(recorded))
    metrics = run_ppo(
        policy,
        value,
        _buffer(config, context, problems, policy, rollouts, feedback),
        config.rl,
        seed=config.seed,
        checkpoints=context.checkpoints,
        checkpoint_minutes=config.trainer.checkpoint_minutes,
        trainer_arguments=arguments,
    )
    if not is_first():
        return StepResult({})
    files = _write(context.folder, policy, value)
    if recorded.exists():
        files["advantages"] = context.folder / "advantages.parquet"
        with atomic_path(files["advantages"]) as temporary:
            shutil.copyfile(recorded, temporary)
    return StepResult(files, metrics)


def check_training(config: Config, source: Mapping[str, Path]) -> None:
    """Raises AresError where all questions are held out."""
    pids = train_questions(config, source)
    if pids and all(is_held_out(pid, config.rl.holdout) for pid in pids):
        raise AresError(
            f"rl.holdout={config.rl.holdout} holds out all {len(pids):,} questions of RL, so that none is left to train "
            "on; lower it, or raise rl.questions."
        )


def check_objective(config: Config) -> tuple[str, ...]:
    """Raises AresError if the objective is unknown or incompatible with other settings of `rl`; no warnings."""
    from ares.rl.objectives import load_objective

    name, objective = config.rl.objective, load_objective(config.rl.objective)
    found = []
    if config.rl.share_trunk and not objective.needs_value:
        found.append(
            f"rl.share_trunk: rl.objective={name} has no value model to share the trunk with; leave it out."
        )
    if config.rl.value_init == "reward" and not objective.needs_value:
        found.append(f"rl.value_init=reward: rl.objective={name} has no value model; leave it out.")
    if (setting := needs_reward_model(config)) and config.teacher.name != "learned":
        found.append(f"{setting} needs a reward model; use teacher=learned teacher.path=<run or folder>.")
    if config.rl.k < objective.min_samples:
        found.append(
            f"rl.objective={name} compares rationales of one question; use rl.k={objective.min_samples} or more."
        )
    if found:
        raise AresError("\n".join(found))
    return ()


def _value_model(config: Config, context: StepContext, policy: "Policy") -> "ValueModel":
    """The value model of the previous round, or a new one; kept unchanged by an objective that needs none."""
    from ares.rl.objectives import load_objective

    shared = config.rl.share_trunk
    if "value" in context.inputs:
        value = policy.load_value(context.inputs["value"], shared=shared)
    elif config.rl.value_init == "reward":
        check_vocabulary(policy, context.inputs["reward"])
        value = policy.load_value(context.inputs["reward"], shared=shared)
    else:
        value = policy.new_value(seed=config.seed, shared=shared)
    return value.to(policy.device if load_objective(config.rl.objective).needs_value else "cpu")


def _write(folder: Path, policy: "Policy", value: "ValueModel") -> dict[str, Path]:
    files = {name: folder / name for name in ("policy", "value")}
    with atomic_folder(files["policy"]) as temporary:
        policy.save(temporary)
    with atomic_folder(files["value"]) as temporary:
        value.save(temporary)
    return files


def _buffer(
    config: Config,
    context: StepContext,
    problems: Mapping[str, Problem],
    policy: "Policy",
    rollouts: "FlatRollouts",
    feedback: list[Feedback],
) -> "RolloutBuffer":
    from ares.datamodules.buffer import RolloutBuffer

    scores = {row.row_id: row.scores for row in feedback if row.status == "ok" and row.scores is not None}
    return RolloutBuffer(
        policy,
        examples_of(problems, set(rollouts.pids), "QCM-E", config),
        rollouts,
        scores,
        neutral=config.rl.neutral,
        granularity=config.rl.granularity,
        holdout=config.rl.holdout,
        correct_sampler=config.rl.sampler_correction == "token",
        sentence_weight=config.rl.rewards.sentences,
        terms=reward_terms(config, context, problems, policy, rollouts, scores),
    )
