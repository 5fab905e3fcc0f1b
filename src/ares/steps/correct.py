"""correct: repeated sentences go, then the Teacher repairs the greedy rationales of the train split."""

import asyncio

from ares.steps.inputs import problems_of
from ares.steps.score import teacher_of, with_progress
from ares.store import Outputs, Run, read_rationales, write_corrections
from ares.teachers.base import Teacher
from ares.teachers.parsing import FeedbackError
from ares.teachers.prompts import strip_solution
from ares.text.sentences import remove_repeated_sentences, split_sentences
from ares.types import AresError, Config, Correction, Problem, Rationale


def correct(config: Config, run: Run) -> Outputs:
    """Writes `corrections.parquet`, one row a train question; the gold solution is never one of them by default."""
    problems, splits = problems_of(config, run)
    rationales = read_rationales(run.inputs["rationales"])
    train = set(splits["train"])
    if any(row.pid not in train for row in rationales):
        raise AresError(
            f"{run.inputs['rationales']} holds questions outside the train split; generate again."
        )
    teacher = teacher_of(config)
    found = asyncio.run(_correct_all(teacher, problems, rationales, run.key))
    if config.correct.on_quarantine == "keep_own":
        found = [_kept(row) for row in found]
    path = run.folder / "corrections.parquet"
    write_corrections(path, found, run.provenance)
    count = max(1, len(found))
    metrics = {
        "changed": sum(
            row.status == "ok" and row.corrected != strip_solution([row.rationale])[0] for row in found
        )
        / count,
        "deduplicated": sum(row.deduplicated != row.rationale for row in found) / count,
        "quarantined": sum(row.status == "quarantined" for row in found) / count,
    }
    return Outputs({"corrections": path}, metrics, usd=teacher.usage.usd, requests=teacher.usage.requests)


async def _correct_all(
    teacher: Teacher, problems: dict[str, Problem], rationales: list[Rationale], label: str
) -> list[Correction]:
    found: dict[str, Correction] = {}

    async def one(row: Rationale) -> None:
        found[row.pid] = await _correct_one(teacher, problems[row.pid], row)

    await with_progress(teacher, [one(row) for row in rationales], label)
    return [found[row.pid] for row in rationales]


async def _correct_one(teacher: Teacher, problem: Problem, row: Rationale) -> Correction:
    deduplicated = remove_repeated_sentences(row.text)
    [bare] = strip_solution([deduplicated])
    result = await teacher.correct(problem, bare, _sentences(bare))
    if isinstance(result.text, FeedbackError):
        return Correction(
            row.pid, row.text, deduplicated, None, "quarantined", str(result.text.reason), result.request_hash
        )
    return Correction(row.pid, row.text, deduplicated, result.text, "ok", "", result.request_hash)


def _sentences(text: str) -> list[str]:
    return [text[span.start : span.end] for span in split_sentences(text)]


def _kept(row: Correction) -> Correction:
    if row.status == "ok" or not row.deduplicated:
        return row
    return Correction(
        row.pid,
        row.rationale,
        row.deduplicated,
        row.deduplicated,
        "ok",
        f"own rationale kept: {row.reason}",
        row.request_hash,
    )
