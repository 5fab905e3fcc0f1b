"""ppo: reinforcement learning over the scored rollouts, then a look at what it changed on held-out problems."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ares.config.schema import Config
from ares.ranks import is_first
from ares.steps.common.contract import StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.generation import greedy_rationales
from ares.steps.common.inputs import examples_of, load_problems, policy_of, trainer_arguments
from ares.storage.files import atomic_folder, write_jsonl
from ares.storage.tables import read_feedback, read_rollouts
from ares.teachers.offline.readings import sentences_of
from ares.teachers.offline.reference import ReferenceTeacher
from ares.teachers.parsing import FeedbackError
from ares.teachers.prompts.default import strip_solution
from ares.text.sentences import repetition_rate
from ares.types import AresError, Feedback, Problem, Rationale, Rollout

if TYPE_CHECKING:
    from ares.datamodules.buffer import RolloutBuffer
    from ares.models.policy import Policy, ValueModel


SPEC = StepSpec(
    name="ppo",
    reads=("data", "features", "policy", "value?", "rollouts", "feedback"),
    writes=("policy", "value", "evaluation"),
    settings=(
        "seed",
        "text",
        "model._target_",
        "generate.max_new_tokens",
        "generate.batch_size",
        "trainer.precision",
        *keys_of(
            "rl", "neutral kl_in kl_coef objective gamma lam whiten clip_range value_clip_range vf_coef"
        ),
        *keys_of("rl", "log_ratio_clamp target_kl ppo_epochs recompute value_warmup_epochs value_lr lr"),
        *keys_of("rl", "warmup_fraction decay weight_decay adam_eps gradient_clip global_batch_size"),
        *keys_of("rl", "micro_batch_size holdout eval_questions share_trunk lora"),
    ),
    runs_on="device",
    place="round",
    folder="ppo",
    check=lambda config, source: check_objective(config),
    headline=("before/score_per_sentence", "after/score_per_sentence", "train/kl_k3", "after/repetition"),
)


def ppo(config: Config, context: StepContext) -> StepResult:
    """Writes `policy/`, `value/` and `evaluation.jsonl`: greedy rationales of val before and after, with scores."""
    from ares.modules.ppo import run_ppo

    problems, splits = load_problems(config, context)
    policy = policy_of(config, context, context.inputs["policy"])
    questions = [problems[pid] for pid in splits["val"][: config.rl.eval_questions]]

    def look(label: str) -> list[dict[str, Any]]:
        rows = greedy_rationales(config, context, policy, questions, label)
        return [scored(problem, row) for problem, row in zip(questions, rows, strict=True)]

    before = look("before")
    value = _value_model(config, context, policy)
    rollouts, feedback = read_rollouts(context.inputs["rollouts"]), read_feedback(context.inputs["feedback"])
    figures = run_ppo(
        policy,
        value,
        _buffer(config, problems, policy, rollouts, feedback),
        config.rl,
        seed=config.seed,
        checkpoints=context.checkpoints,
        trainer_arguments=trainer_arguments(config, context),
    )
    after = look("after")
    if not is_first():
        return StepResult({})
    figures |= {f"before/{name}": figure for name, figure in summary(before).items()}
    figures |= {f"after/{name}": figure for name, figure in summary(after).items()}
    files = _write(context.folder, policy, value, before, after)
    return StepResult(files, figures)


def check_objective(config: Config) -> None:
    """Raises AresError where the objective is unknown or cannot work with the other settings of `rl`."""
    from ares.rl.objectives import load_objective

    name, objective = config.rl.objective, load_objective(config.rl.objective)
    found = []
    if config.rl.share_trunk and not objective.needs_value:
        found.append(
            f"rl.share_trunk: rl.objective={name} has no value model that could share one; leave it out."
        )
    if config.rl.k < objective.min_samples:
        found.append(
            f"rl.objective={name} compares rationales of one question; use rl.k={objective.min_samples} or more."
        )
    if found:
        raise AresError("\n".join(found))


def _value_model(config: Config, context: StepContext, policy: "Policy") -> "ValueModel":
    """The value model of the round before, or a new one; an objective that needs none leaves it as it is."""
    from ares.rl.objectives import load_objective

    shared = config.rl.share_trunk
    if "value" in context.inputs:
        value = policy.load_value(context.inputs["value"], shared=shared)
    else:
        value = policy.new_value(seed=config.seed, shared=shared)
    return value.to(policy.device if load_objective(config.rl.objective).needs_value else "cpu")


def _write(
    folder: Path,
    policy: "Policy",
    value: "ValueModel",
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
) -> dict[str, Path]:
    files = {name: folder / name for name in ("policy", "value")}
    with atomic_folder(files["policy"]) as temporary:
        policy.save(temporary)
    with atomic_folder(files["value"]) as temporary:
        value.save(temporary)
    files["evaluation"] = folder / "evaluation.jsonl"
    rows = [{"pid": b["pid"], "before": b, "after": a} for b, a in zip(before, after, strict=True)]
    write_jsonl(files["evaluation"], rows)
    return files


def _buffer(
    config: Config,
    problems: Mapping[str, Problem],
    policy: "Policy",
    rollouts: list[Rollout],
    feedback: list[Feedback],
) -> "RolloutBuffer":
    from ares.datamodules.buffer import RolloutBuffer

    return RolloutBuffer(
        policy,
        examples_of(problems, {row.pid for row in rollouts}, "QCM-E", config),
        rollouts,
        {row.row_id: row.scores for row in feedback if row.status == "ok" and row.scores is not None},
        neutral=config.rl.neutral,
        holdout=config.rl.holdout,
    )


def scored(problem: Problem, row: Rationale) -> dict[str, Any]:
    """A rationale's sentences with the offline reference teacher's scores; the paid one is never asked here."""
    sentences = strip_solution(sentences_of(row.text))
    [result] = asyncio.run(ReferenceTeacher().score(problem, [sentences]))
    assert not isinstance(result.scores, FeedbackError), result.scores
    return {
        "pid": row.pid,
        "text": row.text,
        "sentences": sentences,
        "scores": list(result.scores),
        "tokens": len(row.token_ids),
        "truncated": row.truncated,
        "repetition": repetition_rate(row.text),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Score per sentence, sentences, tokens, repetition and truncated share, over rationales."""
    count = max(1, len(rows))
    scores = [score for row in rows for score in row["scores"]]
    return {
        "score_per_sentence": sum(scores) / max(1, len(scores)),
        "sentences": len(scores) / count,
        "tokens": sum(row["tokens"] for row in rows) / count,
        "repetition": sum(row["repetition"] for row in rows) / count,
        "truncated": sum(row["truncated"] for row in rows) / count,
    }
