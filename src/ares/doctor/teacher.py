"""What the Teacher needs and will cost: the dry run's estimate, with gold solutions in place of rationales."""

from collections.abc import Iterator, Mapping, Sequence

from ares.config.schema import Config
from ares.doctor.findings import Finding, parts
from ares.steps.common.asking import make_teacher, teacher_warnings
from ares.steps.common.contract import specs_of
from ares.steps.common.dry_run import Estimate, estimate, planned
from ares.teachers.base import Teacher
from ares.text.sentences import sentences_of
from ares.types import AresError, Problem

_STEPS = ("score", "correct", "judge")
_SAMPLE = 200  # questions whose requests are built, per step; an image of each is read


def asks_teacher(steps: Sequence[str]) -> bool:
    """Whether any of the steps sends requests to the Teacher."""
    return any(spec.asks_teacher for spec in specs_of(steps).values())


def check_teacher(
    config: Config, steps: Sequence[str], problems: Mapping[str, Problem], splits: Mapping[str, list[str]]
) -> Iterator[Finding]:
    """Keys, packages and settings, then requests, tokens and money; nothing for a stage that asks no Teacher."""
    if not asks_teacher(steps):
        return
    usable = True
    try:
        for warning in teacher_warnings(config):
            yield Finding("note", "Teacher", warning, "correct teacher.model if it is a typo")
    except AresError as error:
        text, remedy = parts(error)
        yield Finding("problem", "Teacher", text, remedy or "choose another teacher")
        usable = False
    try:
        teacher = make_teacher(config)
    except AresError:
        return  # reported above
    if teacher.costs_money:
        yield _cost(config, teacher, steps, problems, splits)
    elif usable:
        yield Finding("ok", "Teacher", f"{teacher.name}: offline and free")


def _cost(
    config: Config,
    teacher: Teacher,
    steps: Sequence[str],
    problems: Mapping[str, Problem],
    splits: Mapping[str, list[str]],
) -> Finding:
    if not problems:
        return Finding("note", "Teacher", "the cost is unknown without the data", "see above")
    costs = [teacher_cost(config, teacher, step, problems, splits) for step in steps if step in _STEPS]
    requests, sent = sum(c.requests for c in costs), sum(c.input_tokens for c in costs)
    received = sum(c.output_tokens for c in costs)
    text = (
        f"{teacher.name}: about {requests:,} requests, {sent / 1e6:.1f} M tokens sent, "
        f"{received / 1e6:.1f} M received"
    )
    usd = teacher.usd(sent, received)
    if usd is None:
        missing = f"{text}; the price of {config.teacher.arguments['model']} is unknown"
        return Finding("note", "Teacher", missing, "add it to conf/prices.yaml")
    return Finding("ok", "Teacher", f"{text}, about ${usd:,.2f}")


def teacher_cost(
    config: Config,
    teacher: Teacher,
    step: str,
    problems: Mapping[str, Problem],
    splits: Mapping[str, list[str]],
) -> Estimate:
    """The cost of a step's requests in all rounds, from a sample of its questions."""
    pids, rounds = {
        "score": (splits["train"][: config.rl.questions], config.rounds),
        "correct": (splits["train"], config.rounds),
        "judge": (splits[config.judge.split][: config.judge.questions], 1),
    }[step]
    sample = pids[:: max(1, len(pids) // _SAMPLE)]
    requests = planned(teacher, [_ask(teacher, step, problems[pid], config.rl.k) for pid in sample])
    return estimate(teacher, requests, scale=rounds * len(pids) / max(1, len(sample)))


async def _ask(teacher: Teacher, step: str, problem: Problem, k: int) -> None:
    text = problem.solution or problem.question
    sentences = sentences_of(text)
    if step == "score":
        await teacher.score(problem, [sentences] * k)
    elif step == "correct":
        await teacher.correct(problem, text, sentences)
    else:
        for _order in range(2):
            await teacher.judge(problem, text, text)
