"""score: the Teacher scores every sentence of every rollout."""

from functools import partial
from itertools import groupby

from ares.config.schema import Config
from ares.steps.common.asking import Quarantine, ask_all, check_teacher, teacher_of
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.dry_run import askable, dry_run
from ares.steps.common.inputs import load_problems
from ares.storage.tables import read_rollouts, write_feedback
from ares.teachers.base import Teacher
from ares.teachers.messages import Request, ScoreResult
from ares.teachers.parsing import FeedbackError
from ares.teachers.prompts.default import strip_solution
from ares.types import AresError, Feedback, Problem, Rollout

SPEC = StepSpec(
    name="score",
    reads=("data", "rollouts"),
    writes=("feedback",),
    settings=("teacher",),
    place="round",
    shared=True,
    check=lambda config, source: check_teacher(config),
)


def score(config: Config, context: StepContext) -> StepResult:
    """Writes `feedback.parquet`, one row a rollout, and what was quarantined to `feedback-quarantine.jsonl`."""
    problems, splits = load_problems(config, context)
    rollouts = read_rollouts(context.inputs["rollouts"])
    train = set(splits["train"])
    groups = [(problems[pid], list(rows)) for pid, rows in groupby(rollouts, key=lambda row: row.pid)]
    if any(problem.pid not in train for problem, _ in groups):
        raise AresError(
            f"{context.inputs['rollouts']} holds questions outside the train split; roll out again."
        )
    teacher = teacher_of(config, context)
    if config.teacher.dry_run:
        dry_run(teacher, askable(partial(_requests, teacher), groups), context.key)
    rejected = context.folder / "feedback-quarantine.jsonl"
    quarantine = Quarantine(rejected, config.teacher.max_quarantine, len(rollouts))
    try:
        feedback, usd = _score_all(teacher, groups, quarantine, context.key)
    finally:
        quarantine.write()
    path = context.folder / "feedback.parquet"
    write_feedback(path, feedback, context.provenance)
    return StepResult({"feedback": path}, _figures(feedback), usd=usd, requests=teacher.usage.requests)


def _score_all(
    teacher: Teacher, groups: list[tuple[Problem, list[Rollout]]], quarantine: Quarantine, label: str
) -> tuple[list[Feedback], float]:
    found: dict[str, list[Feedback]] = {}

    async def one(problem: Problem, rows: list[Rollout]) -> None:
        results = await teacher.score(problem, _asked(rows))
        found[problem.pid] = [_feedback(row, result) for row, result in zip(rows, results, strict=True)]
        for row, result in zip(rows, results, strict=True):
            if isinstance(result.scores, FeedbackError):
                quarantine.add(row.row_id, result.scores, result.request_hash)

    usd = ask_all(teacher, [one(*item) for item in groups], label)
    return [row for problem, _ in groups for row in found[problem.pid]], usd


def _requests(teacher: Teacher, group: tuple[Problem, list[Rollout]]) -> list[Request]:
    return [request for _, request in teacher.score_requests(group[0], _asked(group[1]))]


def _asked(rows: list[Rollout]) -> list[list[str]]:
    return [strip_solution(row.sentences) for row in rows]


def _feedback(row: Rollout, result: ScoreResult) -> Feedback:
    if not row.sentences:
        return Feedback(row.row_id, (), "empty")
    if isinstance(result.scores, FeedbackError):
        return Feedback(row.row_id, None, "quarantined", result.scores.reason, result.request_hash)
    if len(result.scores) != len(row.spans):
        # Every reader counts; a Teacher that does not would spoil training without a word.
        raise AssertionError(f"{row.row_id}: {len(result.scores)} scores for {len(row.spans)} sentences")
    return Feedback(row.row_id, tuple(result.scores), "ok", "", result.request_hash)


def _figures(feedback: list[Feedback]) -> dict[str, float]:
    scores = [score for row in feedback if row.status == "ok" for score in row.scores or ()]
    count = max(1, len(feedback))
    return {
        "score_per_sentence": sum(scores) / max(1, len(scores)),
        "sentences": len(scores),
        "quarantined": sum(row.status == "quarantined" for row in feedback) / count,
        "empty": sum(row.status == "empty" for row in feedback) / count,
    }
