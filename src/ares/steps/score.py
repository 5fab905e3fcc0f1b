"""score: the Teacher scores every sentence of every rollout."""

from itertools import groupby

from ares.config.schema import Config
from ares.steps.common.asking import Reject, ask_teacher, check_asking, teacher_reads
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.inputs import load_problems
from ares.storage.tables import read_rollouts, write_feedback
from ares.teachers.base import Teacher
from ares.teachers.messages import ScoreResult
from ares.teachers.parsing import FeedbackError
from ares.text.prompts import strip_solution
from ares.types import AresError, Feedback, Problem, Rollout

SPEC = StepSpec(
    name="score",
    reads=lambda config, place: ("data", "rollouts", *teacher_reads(config)),
    writes=("feedback",),
    settings=("teacher",),
    place="round",
    shared=True,
    check=check_asking,
)

Group = tuple[Problem, list[Rollout]]  # all rollouts of one question


def score(config: Config, context: StepContext) -> StepResult:
    """Writes `feedback.parquet`, one row per rollout, and unusable replies to `feedback-quarantine.jsonl`."""
    problems, splits = load_problems(config, context)
    rollouts = read_rollouts(context.inputs["rollouts"])
    train = set(splits["train"])
    groups = [(problems[pid], list(rows)) for pid, rows in groupby(rollouts, key=lambda row: row.pid)]
    if any(problem.pid not in train for problem, _ in groups):
        raise AresError(
            f"{context.inputs['rollouts']} holds questions outside the train split; roll out again."
        )
    answers = ask_teacher(config, context, groups, _ask, artefact="feedback", total=len(rollouts))
    feedback = [row for rows in answers.rows for row in rows]
    path = context.folder / "feedback.parquet"
    write_feedback(path, feedback, context.provenance)
    return StepResult({"feedback": path}, _metrics(feedback), usd=answers.usd, requests=answers.requests)


async def _ask(teacher: Teacher, group: Group, reject: Reject) -> list[Feedback]:
    problem, rollouts = group
    results = await teacher.score(problem, [strip_solution(row.sentences) for row in rollouts])
    for row, result in zip(rollouts, results, strict=True):
        if isinstance(result.scores, FeedbackError):
            reject(row.row_id, result.scores, result.request_hash)
    return [_feedback(row, result) for row, result in zip(rollouts, results, strict=True)]


def _feedback(row: Rollout, result: ScoreResult) -> Feedback:
    if not row.sentences:
        return Feedback(row.row_id, (), "empty")
    if isinstance(result.scores, FeedbackError):
        return Feedback(row.row_id, None, "quarantined", result.scores.reason, result.request_hash)
    if len(result.scores) != len(row.spans):
        # Parsers check the count; a wrong one would silently corrupt training.
        raise AssertionError(f"{row.row_id}: {len(result.scores)} scores for {len(row.spans)} sentences")
    return Feedback(row.row_id, tuple(result.scores), "ok", "", result.request_hash)


def _metrics(feedback: list[Feedback]) -> dict[str, float]:
    scores = [score for row in feedback if row.status == "ok" for score in row.scores or ()]
    count = max(1, len(feedback))
    return {
        "score_per_sentence": sum(scores) / max(1, len(scores)),
        "sentences": len(scores),
        "quarantined": sum(row.status == "quarantined" for row in feedback) / count,
        "empty": sum(row.status == "empty" for row in feedback) / count,
    }
