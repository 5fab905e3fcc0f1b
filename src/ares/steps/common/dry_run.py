"""A dry run: what a step's requests would cost and how long they would take, without sending them."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NoReturn, TypeVar

from ares.teachers.base import Teacher
from ares.teachers.messages import Request, Unaskable
from ares.types import AresError

T = TypeVar("T")

_SAMPLE = 20  # requests whose tokens the service counts, to correct our own estimate
_SECONDS = 3.0  # of one request, where none of this kind has been timed


def dry_run(teacher: Teacher, requests: Sequence[Request], label: str) -> NoReturn:
    """Prints requests, cached share, tokens, price and time, and ends the program with exit code 0."""
    assert teacher.ledger is not None
    known = teacher.ledger.known({request.hash for request in requests})
    asked = list({request.hash: request for request in requests if request.hash not in known}.values())
    expected = [teacher.expected_tokens(request) for request in asked]
    ratio, counted = asyncio.run(_calibrated(teacher, asked))
    pace = teacher.ledger.pace(teacher.name, teacher.prompt_version, requests[0].kind if requests else "")
    inputs = round(ratio * sum(tokens for tokens, _ in expected))
    outputs = round(pace[0] * len(asked)) if pace else sum(tokens for _, tokens in expected)
    usd = teacher.usd(inputs, outputs)
    cached = 1 - len(asked) / max(1, len({request.hash for request in requests}))
    print(f"{label}: dry run, teacher={teacher.name}")
    print(f"  requests  {len(asked)} to send, {cached:.1%} of {len(requests)} are in the ledger")
    source = f"by {counted} that the service counted" if counted else "estimated"
    print(f"  tokens    {inputs} in ({source}), {outputs} out ({'as before' if pace else 'estimated'})")
    print(f"  price     {'unknown: conf/prices.yaml' if usd is None else f'{usd:.2f} USD, repairs apart'}")
    print(f"  time      {_time(teacher, len(asked), pace[1] if pace else None)}")
    teacher.ledger.close()
    raise SystemExit(0)


def _time(teacher: Teacher, requests: int, timed: float | None) -> str:
    if teacher.waits:
        return "within 24 hours, by Message Batches"
    minutes = (timed or _SECONDS) * requests / teacher.concurrency / 60
    speed = "as before" if timed else f"at {_SECONDS:.0f} s a request"
    return f"{minutes:.1f} min at concurrency {teacher.concurrency} ({speed})"


def askable(make: Callable[[T], Iterable[Request]], items: Iterable[T]) -> list[Request]:
    """The requests of all items but those that none can be made of, which a step quarantines."""
    found: list[Request] = []
    for item in items:
        with suppress(Unaskable):
            found += make(item)
    return found


async def _calibrated(teacher: Teacher, requests: Sequence[Request]) -> tuple[float, int]:
    """Tokens by the service's count over our estimate, and of how many requests; 1.0 and 0 without a service."""
    sample = requests[:: max(1, len(requests) // _SAMPLE)][:_SAMPLE]
    try:
        counts = [await teacher.count_tokens(request) for request in sample]
    except AresError:
        counts = []  # no key: the estimate stands as it is
    await teacher.close()
    told = [count for count in counts if count is not None]
    ours = sum(teacher.expected_tokens(request)[0] for request in sample)
    return (sum(told) / ours, len(told)) if told and len(told) == len(sample) and ours else (1.0, 0)
