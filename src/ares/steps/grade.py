"""grade: the Teacher grades the outputs of a benchmark whose answers are free."""

from ares.config.schema import Config
from ares.evaluation.benchmarks.base import Grading, Item
from ares.evaluation.benchmarks.items import problem_of
from ares.steps.common.asking import Reject, ask_teacher, check_asking, teacher_class
from ares.steps.common.benchmarks import (
    configured,
    folder_of,
    is_judged,
    output_files,
    questions_of,
    read_outputs,
)
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.storage.files import write_jsonl
from ares.teachers.base import Teacher
from ares.teachers.grading import Grader
from ares.teachers.parsing import FeedbackError
from ares.types import AresError


def _check(config: Config) -> list[str]:
    if not issubclass(teacher_class(config), Grader):
        raise AresError(
            f"benchmark={config.benchmark.name} is graded by the Teacher, and teacher={config.teacher.name} cannot read its "
            "prompts; choose a chat model: teacher=anthropic or teacher=openai."
        )
    return check_asking(config)


SPEC = StepSpec(
    name="grade",
    reads=lambda config, place: () if config.benchmark.score_only else ("responses",),
    writes=("grades",),
    settings=("teacher", "benchmark.name", "benchmark.rotate"),
    folder_of=lambda config: f"{folder_of(config)}/grades",
    wanted=lambda config, place: is_judged(config),
    files=output_files,
    check=_check,
)


def grade(config: Config, context: StepContext) -> StepResult:
    """Writes `grades.jsonl`, one row per question, and unusable replies to `grades-quarantine.jsonl`."""
    grading = configured(config).grading
    assert grading is not None  # otherwise the step is not wanted
    items = questions_of(config, context.inputs["questions"])
    outputs = read_outputs(context.inputs["responses"], items)

    async def ask(teacher: Teacher, item: Item, reject: Reject) -> dict[str, object]:
        assert isinstance(teacher, Grader)
        return await _graded(teacher, grading, item, outputs[item.index], reject)

    answers = ask_teacher(config, context, items, ask, artefact="grades", total=len(items))
    path = context.folder / "grades.jsonl"
    write_jsonl(path, answers.rows)
    unusable = sum(row["grades"] is None for row in answers.rows)
    metrics = {"graded": len(items) - unusable, "quarantined": unusable / max(1, len(items))}
    return StepResult({"grades": path}, metrics, usd=answers.usd, requests=answers.requests)


async def _graded(
    teacher: Grader, grading: Grading, item: Item, output: str, reject: Reject
) -> dict[str, object]:
    result = await teacher.grade(problem_of(item, item.choices), grading.prompt(item, output), grading.read)
    found = result.grades
    if isinstance(found, FeedbackError):
        reject(item.index, found, result.request_hash)
        return {
            "index": item.index,
            "grades": None,
            "reason": found.reason,
            "request_hash": result.request_hash,
        }
    return {"index": item.index, "grades": found, "reason": "", "request_hash": result.request_hash}
