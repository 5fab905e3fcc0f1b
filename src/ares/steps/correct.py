"""correct: removes repeated sentences from the greedy train rationales, then lets the Teacher repair them."""

from functools import partial

from ares.config.schema import Config
from ares.steps.common.asking import Reject, ask_teacher, check_asking, teacher_reads
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.inputs import load_problems
from ares.storage.tables import read_rationales, write_corrections
from ares.teachers.base import Teacher
from ares.teachers.parsing import FeedbackError
from ares.text.prompts import strip_solution
from ares.text.sentences import remove_repeated_sentences, sentences_of
from ares.types import AresError, Correction, Problem, Rationale

SPEC = StepSpec(
    name="correct",
    reads=lambda config, place: ("data", "rationales", *teacher_reads(config)),
    writes=("corrections",),
    settings=("teacher", "correct"),
    place="round",
    check=check_asking,
)


def correct(config: Config, context: StepContext) -> StepResult:
    """Writes `corrections.parquet`, one row per train question, and unusable replies to
    `corrections-quarantine.jsonl`; the gold solution never replaces a correction."""
    problems, splits = load_problems(config, context)
    rationales = read_rationales(context.inputs["rationales"])
    train = set(splits["train"])
    if any(row.pid not in train for row in rationales):
        raise AresError(
            f"{context.inputs['rationales']} holds questions outside the train split; generate again."
        )
    ask = partial(_ask, problems)
    answers = ask_teacher(config, context, rationales, ask, artefact="corrections", total=len(rationales))
    rows, metrics = answers.rows, _metrics(answers.rows)
    if config.correct.on_quarantine == "keep_own":
        rows = [_kept(row) for row in rows]
    path = context.folder / "corrections.parquet"
    write_corrections(path, rows, context.provenance)
    return StepResult({"corrections": path}, metrics, usd=answers.usd, requests=answers.requests)


async def _ask(problems: dict[str, Problem], teacher: Teacher, row: Rationale, reject: Reject) -> Correction:
    deduplicated = remove_repeated_sentences(row.text)
    [bare] = strip_solution([deduplicated])
    result = await teacher.correct(problems[row.pid], bare, sentences_of(bare))
    own = (row.pid, row.text, deduplicated)
    if isinstance(result.text, FeedbackError):
        reject(row.pid, result.text, result.request_hash)
        reason = result.text.reason
        return Correction(*own, None, "quarantined", reason, request_hash=result.request_hash)
    return Correction(*own, result.text, "ok", request_hash=result.request_hash)


def _metrics(rows: list[Correction]) -> dict[str, float]:
    count = max(1, len(rows))
    changed = sum(row.status == "ok" and row.corrected != strip_solution([row.rationale])[0] for row in rows)
    return {
        "changed": changed / count,
        "deduplicated": sum(row.deduplicated != row.rationale for row in rows) / count,
        "quarantined": sum(row.status == "quarantined" for row in rows) / count,
    }


def _kept(row: Correction) -> Correction:
    if row.status == "ok" or not row.deduplicated:
        return row
    own = (row.pid, row.rationale, row.deduplicated, row.deduplicated)
    return Correction(*own, "ok", f"own rationale kept: {row.reason}", row.request_hash)
