"""correct: repeated sentences go, then the Teacher repairs the greedy rationales of the train split."""

from functools import partial

from ares.config.schema import Config
from ares.steps.common.asking import Quarantine, ask_all, check_teacher, teacher_of
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.dry_run import askable, dry_run
from ares.steps.common.inputs import load_problems
from ares.storage.tables import read_rationales, write_corrections
from ares.teachers.base import Teacher
from ares.teachers.messages import Request
from ares.teachers.parsing import FeedbackError
from ares.teachers.prompts.default import strip_solution
from ares.text.sentences import remove_repeated_sentences, sentences_of
from ares.types import AresError, Correction, Problem, Rationale

SPEC = StepSpec(
    name="correct",
    reads=("data", "rationales"),
    writes=("corrections",),
    settings=("teacher", "correct"),
    place="round",
    check=lambda config, source: check_teacher(config),
)


def correct(config: Config, context: StepContext) -> StepResult:
    """Writes `corrections.parquet`, one row a train question, and what was quarantined to
    `corrections-quarantine.jsonl`; the gold solution takes nobody's place."""
    problems, splits = load_problems(config, context)
    rationales = read_rationales(context.inputs["rationales"])
    train = set(splits["train"])
    if any(row.pid not in train for row in rationales):
        raise AresError(
            f"{context.inputs['rationales']} holds questions outside the train split; generate again."
        )
    teacher = teacher_of(config, context)
    if config.teacher.dry_run:
        asked = [(problems[row.pid], _bare(row)) for row in rationales]
        dry_run(teacher, askable(partial(_requests, teacher), asked), context.key)
    rejected = context.folder / "corrections-quarantine.jsonl"
    quarantine = Quarantine(rejected, config.teacher.max_quarantine, len(rationales))
    try:
        found, usd = _correct_all(teacher, problems, rationales, quarantine, context.key)
    finally:
        quarantine.write()
    figures = _figures(found)
    if config.correct.on_quarantine == "keep_own":
        found = [_kept(row) for row in found]
    path = context.folder / "corrections.parquet"
    write_corrections(path, found, context.provenance)
    return StepResult({"corrections": path}, figures, usd=usd, requests=teacher.usage.requests)


def _correct_all(
    teacher: Teacher,
    problems: dict[str, Problem],
    rationales: list[Rationale],
    quarantine: Quarantine,
    label: str,
) -> tuple[list[Correction], float]:
    found: dict[str, Correction] = {}

    async def one(row: Rationale) -> None:
        bare = _bare(row)
        result = await teacher.correct(problems[row.pid], bare, sentences_of(bare))
        own = (row.pid, row.text, remove_repeated_sentences(row.text))
        if isinstance(result.text, FeedbackError):
            found[row.pid] = Correction(
                *own, None, "quarantined", result.text.reason, request_hash=result.request_hash
            )
            quarantine.add(row.pid, result.text, result.request_hash)
        else:
            found[row.pid] = Correction(*own, result.text, "ok", request_hash=result.request_hash)

    usd = ask_all(teacher, [one(row) for row in rationales], label)
    return [found[row.pid] for row in rationales], usd


def _requests(teacher: Teacher, asked: tuple[Problem, str]) -> list[Request]:
    problem, bare = asked
    return [teacher.request("correct", teacher.correct_payload(problem, bare, sentences_of(bare)))]


def _bare(row: Rationale) -> str:
    [bare] = strip_solution([remove_repeated_sentences(row.text)])
    return bare


def _figures(found: list[Correction]) -> dict[str, float]:
    count = max(1, len(found))
    changed = sum(row.status == "ok" and row.corrected != strip_solution([row.rationale])[0] for row in found)
    return {
        "changed": changed / count,
        "deduplicated": sum(row.deduplicated != row.rationale for row in found) / count,
        "quarantined": sum(row.status == "quarantined" for row in found) / count,
    }


def _kept(row: Correction) -> Correction:
    if row.status == "ok" or not row.deduplicated:
        return row
    own = (row.pid, row.rationale, row.deduplicated, row.deduplicated)
    return Correction(*own, "ok", f"own rationale kept: {row.reason}", row.request_hash)
