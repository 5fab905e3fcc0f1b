"""judge: the Teacher compares this run's rationales (a) with others (b), in both orders.

The others are those of the policy before RL or, with `judge.against`, another run's.
"""

from pathlib import Path

from ares.config.commands import command
from ares.config.schema import Config
from ares.evaluation.judge import combine, win_rates
from ares.steps.common.asking import Reject, ask_teacher, check_asking, teacher_reads
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.inputs import load_problems
from ares.storage.files import sha256_file
from ares.storage.tables import read_rationales, write_verdicts
from ares.teachers.base import Teacher
from ares.teachers.parsing import FeedbackError
from ares.text.prompts import strip_solution
from ares.types import AresError, Problem, Verdict

SPEC = StepSpec(
    name="judge",
    reads=lambda config, place: ("data", *_rationales(config), *teacher_reads(config)),
    writes=("verdicts",),
    settings=("teacher", "judge.split", "judge.questions"),
    files=lambda config: _against(config),
    check=check_asking,
)

Pair = tuple[Problem, str, str]


def _rationales(config: Config) -> list[str]:
    own = f"rationales-{config.judge.split}"
    return [own] if config.judge.against else [own, f"baseline/{own}"]


def _against(config: Config) -> dict[str, tuple[Path, str]]:
    if config.judge.against is None:
        return {}
    path = other_rationales(config.judge.against, config)
    return {"against": (path, sha256_file(path))}


def judge(config: Config, context: StepContext) -> StepResult:
    """Writes `verdicts.parquet`, one row per question for which both sides have a rationale, and unusable replies to
    `verdicts-quarantine.jsonl`."""
    problems, _ = load_problems(config, context)
    own = read_rationales(context.inputs[f"rationales-{config.judge.split}"])
    against = config.judge.against
    baseline = context.inputs.get(f"baseline/rationales-{config.judge.split}")
    file = other_rationales(against, config) if against else baseline
    assert file is not None  # one of the two is an input
    others = {row.pid: row.text for row in read_rationales(file)}
    pairs = [(problems[row.pid], row.text, others[row.pid]) for row in own if row.pid in others]
    if not pairs:
        raise AresError(
            f"judge.against={config.judge.against or 'baseline'} has no rationale for any question of this run's "
            f"{config.judge.split} split; name a run on the same data, or another judge.split."
        )
    pairs = pairs[: config.judge.questions]
    answers = ask_teacher(config, context, pairs, _ask, artefact="verdicts", total=2 * len(pairs))
    path = context.folder / "verdicts.parquet"
    write_verdicts(path, answers.rows, context.provenance)
    metrics = win_rates(answers.rows)
    return StepResult({"verdicts": path}, metrics, usd=answers.usd, requests=answers.requests)


def other_rationales(against: str, config: Config) -> Path:
    """The file of rationales that `judge.against` names. Raises AresError if there is none."""
    if Path(against).is_file():
        return Path(against)
    path = Path(config.paths.runs) / against / "final" / f"rationales-{config.judge.split}.parquet"
    if not path.is_file():
        raise AresError(
            f"judge.against={against} is not a file, and {path} does not exist; write it with "
            f"`{command('generate', run=against)}`."
        )
    return path


async def _ask(teacher: Teacher, pair: Pair, reject: Reject) -> Verdict:
    problem, own, other = pair
    a, b = (strip_solution([text])[0] for text in (own, other))
    results = [await teacher.judge(problem, a, b), await teacher.judge(problem, b, a)]
    for order, result in zip(("a first", "b first"), results, strict=True):
        if isinstance(result.winner, FeedbackError):
            reject(f"{problem.pid}, {order}", result.winner, result.request_hash)
    hashes = [result.request_hash for result in results]
    return combine(problem.pid, results[0].winner, results[1].winner, hashes)
