"""ppo: reinforcement learning over the scored rollouts, then a look at what it changed on held-out problems."""

import asyncio
from collections.abc import Mapping
from typing import Any

from ares.datamodules.rollouts import RolloutBuffer
from ares.models.loading import load_value, save_policy, value_from_policy
from ares.models.trunk import TrunkValue, take_trunk
from ares.modules.ppo import run_ppo
from ares.ranks import is_first
from ares.steps.generation import encode_prompts, greedy_rationales
from ares.steps.inputs import examples_of, features_of, policy_of, problems_of, trainer_arguments
from ares.store import Outputs, Run, atomic_folder, read_feedback, read_rollouts, write_jsonl
from ares.teachers.parsing import FeedbackError
from ares.teachers.prompts import strip_solution
from ares.teachers.reference import ReferenceTeacher
from ares.text.sentences import repetition_rate, split_sentences
from ares.types import Config, Feedback, Problem, Rationale, Rollout


def ppo(config: Config, run: Run) -> Outputs:
    """Writes `policy/`, `value/` and `evaluation.jsonl`: greedy rationales of val before and after, with scores."""
    problems, splits = problems_of(config, run)
    policy, tokenizer = policy_of(config, run.inputs["policy"], dropout=0.0)
    features = features_of(run)
    questions = examples_of(problems, splits["val"][: config.rl.eval_questions], "QCM-E", config)

    def look(label: str) -> list[dict[str, Any]]:
        rationales = greedy_rationales(
            policy,
            tokenizer,
            questions,
            features,
            max_input_tokens=config.text.max_input_tokens,
            max_new_tokens=config.generate.max_new_tokens,
            batch_size=config.generate.batch_size,
            label=f"{run.key} {label}",
        )
        return [scored(problems[row.pid], row) for row in rationales]

    before = look("before")
    value = (
        load_value(run.inputs["value"], dropout=0.0, features=features is not None)
        if "value" in run.inputs
        else value_from_policy(policy, seed=config.seed)
    )
    # On a shared trunk the value model's own body is only what its weights are saved in.
    head = TrunkValue(policy, value.cpu().v_head) if config.rl.share_trunk else None
    rollouts, feedback = read_rollouts(run.inputs["rollouts"]), read_feedback(run.inputs["feedback"])
    buffer = _buffer(config, problems, tokenizer, rollouts, feedback)
    arguments = trainer_arguments(config, run)
    trained: Any = head or value
    figures = run_ppo(
        policy,
        # Objectives that compare rationales have no use for it.
        trained.to(policy.device if config.rl.objective == "ppo" else "cpu"),
        buffer,
        config.rl,
        seed=config.seed,
        features=features,
        checkpoints=run.checkpoints,
        callbacks=arguments.pop("callbacks"),
        trainer_arguments=arguments,
    )
    after = look("after")
    if not is_first():
        return Outputs({})
    files = {
        "policy": run.folder / "policy",
        "value": run.folder / "value",
        "evaluation": run.folder / "evaluation.jsonl",
    }
    if head:
        take_trunk(value.cpu(), policy)
    with atomic_folder(files["policy"]) as folder:
        save_policy(policy, tokenizer, folder)
    with atomic_folder(files["value"]) as folder:
        value.save_pretrained(folder)
    write_jsonl(
        files["evaluation"],
        [{"pid": a["pid"], "before": a, "after": b} for a, b in zip(before, after, strict=True)],
    )
    figures |= {f"before/{name}": value for name, value in summary(before).items()}
    figures |= {f"after/{name}": value for name, value in summary(after).items()}
    return Outputs(files, {**figures, **buffer_figures(rollouts, feedback)})


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


def scored(problem: Problem, row: Rationale) -> dict[str, Any]:
    """A rationale's sentences with the offline reference teacher's scores; the paid one is never asked here."""
    sentences = strip_solution([row.text[span.start : span.end] for span in split_sentences(row.text)])
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
