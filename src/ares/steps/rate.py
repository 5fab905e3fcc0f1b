"""rate: the Teacher scores the sentences of solutions, those of a new iteration that are right or all candidates."""

from collections.abc import Sequence
from itertools import groupby

from ares.config.schema import Config
from ares.steps.common.asking import Reject, ask_teacher, check_asking, teacher_reads
from ares.steps.common.contract import Place, StepContext, StepResult, StepSpec
from ares.steps.common.inputs import load_problems
from ares.storage.solutions import Solution, read_solutions
from ares.storage.tables import read_feedback, write_feedback
from ares.teachers.base import Teacher
from ares.teachers.parsing import FeedbackError
from ares.text.reflection import reasoning_sentences
from ares.types import Feedback, Problem

SPEC = StepSpec(
    name="rate",
    reads=lambda config, place: (
        *(("data", "pool", "ratings?") if place == "round" else ("data", "candidates")),
        *teacher_reads(config),
    ),
    writes=("ratings",),
    settings=("teacher",),
    place="round",
    wanted=lambda config, place: _wanted(config, place),
    headline=("approval", "sentences", "quarantined"),
    check=check_asking,
)

Group = tuple[Problem, list[Solution]]  # solutions of one question


def _wanted(config: Config, place: Place) -> bool:
    by_sentences = config.selftrain.filter == "sentences"
    return by_sentences if place == "round" else "teacher" in config.select.by


def rate(config: Config, context: StepContext) -> StepResult:
    """Writes `ratings.parquet`: the scores of a solution's sentences by its row_id, earlier ratings as they are.

    The sentence that gives the answer is not scored. Unusable replies are in `ratings-quarantine.jsonl`.
    """
    earlier = read_feedback(context.inputs["ratings"]) if "ratings" in context.inputs else []
    return rated(config, context, _solutions(context), "ratings", earlier)


def rated(
    config: Config,
    context: StepContext,
    rows: Sequence[Solution],
    artefact: str,
    earlier: Sequence[Feedback] = (),
) -> StepResult:
    """Writes `<artefact>.parquet`: the `earlier` scores, then the configured Teacher's of the rows' sentences."""
    problems, _ = load_problems(config, context)
    groups = [(problems[pid], list(own)) for pid, own in groupby(rows, key=lambda row: row.pid)]
    answers = ask_teacher(config, context, groups, _ask, artefact=artefact, total=max(1, len(rows)))
    new = [row for group in answers.rows for row in group]
    path = context.folder / f"{artefact}.parquet"
    write_feedback(path, [*earlier, *new], context.provenance)
    scores = [score for row in new for score in row.scores or ()]
    metrics = {
        "approval": sum(scores) / max(1, len(scores)),
        "sentences": len(scores),
        "quarantined": sum(row.status == "quarantined" for row in new) / max(1, len(new)),
    }
    return StepResult({artefact: path}, metrics, usd=answers.usd, requests=answers.requests)


def _solutions(context: StepContext) -> list[Solution]:
    """What has to be scored: all candidates, or of the pool the right solutions of this iteration."""
    if "candidates" in context.inputs:
        return read_solutions(context.inputs["candidates"])
    pool = read_solutions(context.inputs["pool"])
    return [row for row in pool if row.iteration == context.round and row.correct]


async def _ask(teacher: Teacher, group: Group, reject: Reject) -> list[Feedback]:
    problem, rows = group
    results = await teacher.score(problem, [reasoning_sentences(row.text) for row in rows])
    found = []
    for row, result in zip(rows, results, strict=True):
        if isinstance(result.scores, FeedbackError):
            reject(row.row_id, result.scores, result.request_hash)
            found.append(Feedback(row.row_id, None, "quarantined", result.scores.reason, result.request_hash))
        else:
            status = "ok" if result.scores else "empty"
            found.append(Feedback(row.row_id, tuple(result.scores), status, "", result.request_hash))
    return found
