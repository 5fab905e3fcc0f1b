"""ppo: reinforcement learning over the scored rollouts, then a look at what it changed on held-out problems."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ares.config.schema import Config
from ares.ranks import is_first
from ares.steps.common.contract import StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.generation import encode_prompts, rationales_of
from ares.steps.common.inputs import examples_of, features_of, load_problems, policy_of, trainer_arguments
from ares.storage.files import atomic_folder, write_jsonl
from ares.storage.tables import read_feedback, read_rollouts
from ares.teachers.offline.readings import sentences_of
from ares.teachers.offline.reference import ReferenceTeacher
from ares.teachers.parsing import FeedbackError
from ares.teachers.prompts.default import strip_solution
from ares.text.sentences import repetition_rate
from ares.types import Feedback, Problem, Rationale, Rollout

if TYPE_CHECKING:
    from ares.datamodules.rollouts import RolloutBuffer


SPEC = StepSpec(
    name="ppo",
    reads=("data", "features", "policy", "value?", "rollouts", "feedback"),
    writes=("policy", "value", "evaluation"),
    settings=(
        "seed",
        "text",
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
    places=("round",),
    folder="ppo",
    headline=("before/score_per_sentence", "after/score_per_sentence", "train/kl_k3", "after/repetition"),
)


def ppo(config: Config, context: StepContext) -> StepResult:
    """Writes `policy/`, `value/` and `evaluation.jsonl`: greedy rationales of val before and after, with scores."""
    from ares.models.heads import take_trunk
    from ares.modules.ppo import run_ppo

    problems, splits = load_problems(config, context)
    policy, tokenizer = policy_of(config, context.inputs["policy"], dropout=0.0)
    questions = [problems[pid] for pid in splits["val"][: config.rl.eval_questions]]

    def look(label: str) -> list[dict[str, Any]]:
        rows = rationales_of(config, context, policy, tokenizer, questions, label)
        return [scored(problem, row) for problem, row in zip(questions, rows, strict=True)]

    before = look("before")
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
    after = look("after")
    if not is_first():
        return StepResult({})
    if config.rl.share_trunk:
        take_trunk(value.cpu(), policy)
    figures |= {f"before/{name}": figure for name, figure in summary(before).items()}
    figures |= {f"after/{name}": figure for name, figure in summary(after).items()}
    files = _write(context.folder, policy, tokenizer, value, before, after)
    return StepResult(files, {**figures, **buffer_figures(rollouts, feedback)})


def _value_models(config: Config, context: StepContext, policy: Any) -> tuple[Any, Any]:
    """The value model to be saved, and the one to be trained: the same, or its head on the policy's body."""
    from ares.models.heads import SharedBackboneValue
    from ares.models.t5.loading import load_value, value_from_policy

    if "value" in context.inputs:
        value: Any = load_value(context.inputs["value"], dropout=0.0, features="features" in context.inputs)
    else:
        value = value_from_policy(policy, seed=config.seed)
    # Objectives that compare rationales leave the value model as it is.
    device = policy.device if config.rl.objective == "ppo" else "cpu"
    if config.rl.share_trunk:
        return value, SharedBackboneValue(policy, value.cpu().v_head).to(device)
    return value, value.to(device)


def _write(
    folder: Path,
    policy: Any,
    tokenizer: Any,
    value: Any,
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
) -> dict[str, Path]:
    from ares.models.t5.loading import save_policy

    files = {name: folder / name for name in ("policy", "value")}
    with atomic_folder(files["policy"]) as temporary:
        save_policy(policy, tokenizer, temporary)
    with atomic_folder(files["value"]) as temporary:
        value.save_pretrained(temporary)
    files["evaluation"] = folder / "evaluation.jsonl"
    rows = [{"pid": b["pid"], "before": b, "after": a} for b, a in zip(before, after, strict=True)]
    write_jsonl(files["evaluation"], rows)
    return files


def _buffer(
    config: Config,
    problems: Mapping[str, Problem],
    tokenizer: Any,
    rollouts: list[Rollout],
    feedback: list[Feedback],
) -> "RolloutBuffer":
    from ares.datamodules.rollouts import RolloutBuffer

    examples = examples_of(problems, {row.pid for row in rollouts}, "QCM-E", config)
    return RolloutBuffer(
        rollouts,
        {row.row_id: row.scores for row in feedback if row.status == "ok" and row.scores is not None},
        encode_prompts(tokenizer, examples, config.text.max_input_tokens),
        pad_id=tokenizer.pad_token_id,
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


def buffer_figures(rollouts: list[Rollout], feedback: list[Feedback]) -> Mapping[str, float]:
    """Figures of what was trained on, beside the reward."""
    count = max(1, len(rollouts))
    return {
        "rollouts/length": sum(len(row.token_ids) for row in rollouts) / count,
        "rollouts/truncated": sum(row.truncated for row in rollouts) / count,
        "rollouts/quarantined": sum(row.status == "quarantined" for row in feedback) / count,
    }
