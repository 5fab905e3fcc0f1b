"""judge: the Teacher compares this run's rationales (a) with another run's (b), in both orders."""

from functools import partial
from pathlib import Path

from ares.config.commands import command
from ares.config.schema import Config
from ares.evaluation.judge import combine, win_rates
from ares.steps.common.asking import Quarantine, ask_all, check_teacher, teacher_of
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.dry_run import askable, dry_run
from ares.steps.common.inputs import load_problems
from ares.storage.files import sha256_file
from ares.storage.tables import read_rationales, write_verdicts
from ares.teachers.base import Teacher
from ares.teachers.messages import Request
from ares.teachers.parsing import FeedbackError
from ares.teachers.prompts.default import strip_solution
from ares.types import AresError, Problem, Verdict

SPEC = StepSpec(
    name="judge",
    reads=lambda config, place: ("data", f"rationales-{config.judge.split}"),
    writes=("verdicts",),
    settings=("teacher", "judge.split", "judge.questions"),
    files=lambda config: {"against": (other_rationales(config), sha256_file(other_rationales(config)))},
    check=lambda config, source: check_teacher(config),
)

Pair = tuple[Problem, str, str]


def judge(config: Config, context: StepContext) -> StepResult:
    """Writes `verdicts.parquet`, one row a question that both runs have a rationale for, and what was
    quarantined to `verdicts-quarantine.jsonl`."""
    problems, _ = load_problems(config, context)
    own = read_rationales(context.inputs[f"rationales-{config.judge.split}"])
    others = {row.pid: row.text for row in read_rationales(other_rationales(config))}
    both = [(problems[row.pid], row.text, others[row.pid]) for row in own if row.pid in others]
    if not both:
        raise AresError(
            f"judge.against={config.judge.against} has no rationale for any question of this run's {config.judge.split} "
            "split; name a run on the same data."
        )
    pairs = [(problem, _bare(a), _bare(b)) for problem, a, b in both[: config.judge.questions]]
    teacher = teacher_of(config, context)
    if config.teacher.dry_run:
        dry_run(teacher, askable(partial(_requests, teacher), pairs), context.key)
    rejected = context.folder / "verdicts-quarantine.jsonl"
    quarantine = Quarantine(rejected, config.teacher.max_quarantine, 2 * len(pairs))
    try:
        verdicts, usd = _judge_all(teacher, pairs, quarantine, context.key)
    finally:
        quarantine.write()
    path = context.folder / "verdicts.parquet"
    write_verdicts(path, verdicts, context.provenance)
    return StepResult({"verdicts": path}, win_rates(verdicts), usd=usd, requests=teacher.usage.requests)


def other_rationales(config: Config) -> Path:
    """The file of rationales to compare with; raises AresError where there is none."""
    against = config.judge.against
    if against is None:
        raise AresError("stage=judge compares with judge.against=<run or rationales file>; name one.")
    if Path(against).is_file():
        return Path(against)
    path = Path(config.paths.runs) / against / "final" / f"rationales-{config.judge.split}.parquet"
    if not path.is_file():
        raise AresError(
            f"judge.against={against} is no file, and {path} is not there; make it with "
            f"`{command('generate', run=against)}`."
        )
    return path


def _bare(text: str) -> str:
    return strip_solution([text])[0]


def _requests(teacher: Teacher, pair: Pair) -> list[Request]:
    problem, a, b = pair
    orders = ((a, b), (b, a))
    return [teacher.request("judge", teacher.judge_payload(problem, *order)) for order in orders]


def _judge_all(
    teacher: Teacher, pairs: list[Pair], quarantine: Quarantine, label: str
) -> tuple[list[Verdict], float]:
    found: dict[str, Verdict] = {}

    async def one(problem: Problem, a: str, b: str) -> None:
        results = [await teacher.judge(problem, a, b), await teacher.judge(problem, b, a)]
        hashes = [result.request_hash for result in results]
        found[problem.pid] = combine(problem.pid, results[0].winner, results[1].winner, hashes)
        for name, result in zip(("a first", "b first"), results, strict=True):
            if isinstance(result.winner, FeedbackError):
                quarantine.add(f"{problem.pid}, {name}", result.winner, result.request_hash)

    usd = ask_all(teacher, [one(*pair) for pair in pairs], label)
    return [found[problem.pid] for problem, _, _ in pairs], usd
