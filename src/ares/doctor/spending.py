"""What the Teacher is going to cost, estimated from the lengths of the questions and the gold rationales."""

from collections.abc import Iterator, Mapping, Sequence

from ares.config.schema import Config
from ares.doctor.findings import Finding
from ares.doctor.requirements import teacher_tokens, teacher_usd
from ares.steps.common.asking import make_teacher
from ares.steps.common.contract import specs_of
from ares.types import AresError, Problem


def check_teacher(
    config: Config, steps: Sequence[str], problems: Mapping[str, Problem], splits: Mapping[str, list[str]]
) -> Iterator[Finding]:
    """Requests, tokens and money; nothing for a stage that asks no Teacher."""
    name = config.teacher.name
    if not any(spec.asks_teacher for spec in specs_of(steps).values()):
        return
    if name in ("oracle", "overlap", "replay"):
        yield _offline(config)
        return
    if not problems:
        yield Finding("note", "Teacher", "the cost is unknown without the data", "see above")
        return
    tokens = teacher_tokens(config, problems, splits, steps)
    requests, sent, received = (sum(column) for column in zip(*tokens.values(), strict=True))
    text = f"{name}: about {requests:,} requests, {sent / 1e6:.1f} M tokens sent, {received / 1e6:.1f} M received"
    usd = teacher_usd(config, tokens)
    if usd is None:
        yield Finding(
            "note",
            "Teacher",
            f"{text}; the price of {config.teacher.arguments.get('model')} is unknown",
            "add it to prices",
        )
    else:
        yield Finding("ok", "Teacher", f"{text}, about ${usd:,.2f}")


def _offline(config: Config) -> Finding:
    """A Teacher without a price may lack its recording."""
    try:
        make_teacher(config).check()
    except AresError as error:
        return Finding("problem", "Teacher", str(error), "teacher.path=<recording>, or teacher=overlap")
    return Finding("ok", "Teacher", f"{config.teacher.name}: offline and free")
