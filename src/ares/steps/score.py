"""score: the Teacher scores every sentence of every rollout, each question's rationales together."""

import asyncio
from itertools import groupby
from typing import Any

from hydra.utils import instantiate

from ares.steps.inputs import problems_of
from ares.store import Outputs, Run, read_rollouts, write_feedback
from ares.teachers.base import Teacher
from ares.teachers.ledger import Ledger
from ares.teachers.parsing import FeedbackError
from ares.teachers.prompts import strip_solution
from ares.types import AresError, Config, Feedback, Problem, Rollout


def teacher_of(config: Config) -> Teacher:
    """The configured Teacher on the ledger that all runs share."""
    settings = {key: value for key, value in config.teacher.items() if key != "name"}
    return instantiate(settings, ledger=Ledger(config.paths.ledger))


def score(config: Config, run: Run) -> Outputs:
    """Writes `feedback.parquet`, one row a rollout."""
    problems, splits = problems_of(config, run)
    rollouts = read_rollouts(run.inputs["rollouts"])
    train = set(splits["train"])
    groups = [(pid, list(rows)) for pid, rows in groupby(rollouts, key=lambda row: row.pid)]
    if any(pid not in train for pid, _ in groups):
        raise AresError(f"{run.inputs['rollouts']} holds questions outside the train split; roll out again.")
    teacher = teacher_of(config)
    feedback = asyncio.run(_score_all(teacher, problems, groups, run.key))
    path = run.folder / "feedback.parquet"
    write_feedback(path, feedback, run.provenance)
    return Outputs(
        {"feedback": path}, _figures(feedback), usd=teacher.usage.usd, requests=teacher.usage.requests
    )


async def _score_all(
    teacher: Teacher, problems: dict[str, Problem], groups: list[tuple[str, list[Rollout]]], label: str
) -> list[Feedback]:
    found: dict[str, list[Feedback]] = {}

    async def one(pid: str, rows: list[Rollout]) -> None:
        found[pid] = await _score_question(teacher, problems[pid], rows)

    await with_progress(teacher, [one(pid, rows) for pid, rows in groups], label)
    return [row for pid, _ in groups for row in found[pid]]


async def with_progress(teacher: Teacher, jobs: list[Any], label: str) -> None:
    """Awaits the jobs together, with a bar of how many are done, when the rest will be, and the money spent."""
    from tqdm import tqdm

    with tqdm(total=len(jobs), desc=label, dynamic_ncols=True) as bar:
        for job in asyncio.as_completed(jobs):
            await job
            bar.update()
            bar.set_postfix(usd=f"{teacher.usage.usd:.2f}", requests=teacher.usage.requests, refresh=False)


async def _score_question(teacher: Teacher, problem: Problem, rows: list[Rollout]) -> list[Feedback]:
    sent = [row for row in rows if row.sentences]
    results = await teacher.score(problem, [strip_solution(row.sentences) for row in sent]) if sent else []
    scored = {row.row_id: result for row, result in zip(sent, results, strict=True)}
    return [_feedback(row, scored.get(row.row_id)) for row in rows]


def _feedback(row: Rollout, result: Any) -> Feedback:
    if result is None:
        return Feedback(row.row_id, (), "empty")
    if isinstance(result.scores, FeedbackError):
        return Feedback(row.row_id, None, "quarantined", str(result.scores.reason), result.request_hash)
    if len(result.scores) != len(row.spans):
        reason = f"{len(result.scores)} scores for {len(row.spans)} sentences"
        return Feedback(row.row_id, None, "quarantined", reason, result.request_hash)
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
