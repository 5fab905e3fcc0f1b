"""Estimates the cost of a Teacher's requests before they are sent: tokens, price and time."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ares.teachers.base import Teacher
from ares.teachers.messages import Request
from ares.types import AresError

_SAMPLE = 20  # requests whose tokens the service counts, to correct our own count
_SECONDS = 3.0  # per request, if no earlier one was timed


@dataclass(frozen=True)
class Estimate:
    """The expected tokens of a number of requests and their price (US dollars), None if unknown."""

    requests: int
    input_tokens: int
    output_tokens: int
    usd: float | None


def planned(teacher: Teacher, jobs: Iterable[Coroutine[Any, Any, Any]]) -> list[Request]:
    """The requests that jobs of this Teacher would send. The Teacher sends nothing from now on."""
    requests = teacher.plan()

    async def run() -> None:
        await asyncio.gather(*jobs)

    asyncio.run(run())
    return requests


def estimate(
    teacher: Teacher,
    requests: Sequence[Request],
    *,
    scale: float = 1.0,
    input_ratio: float = 1.0,
    mean_output: float | None = None,
) -> Estimate:
    """The cost of requests, multiplied by `scale` if they are a sample.

    `input_ratio` corrects our count of input tokens; `mean_output` is the mean length of earlier replies.
    """
    expected = [teacher.expected_tokens(request) for request in requests]
    sent = round(scale * input_ratio * sum(tokens for tokens, _ in expected))
    replied = sum(tokens for _, tokens in expected) if mean_output is None else mean_output * len(requests)
    received = round(scale * replied)
    return Estimate(round(scale * len(requests)), sent, received, teacher.usd(sent, received))


def dry_run(teacher: Teacher, jobs: Iterable[Coroutine[Any, Any, Any]], label: str) -> NoReturn:
    """Prints requests, cached fraction, tokens, price and time, and ends the program with exit code 0."""
    assert teacher.ledger is not None
    requests = planned(teacher, jobs)
    unique = {request.hash: request for request in requests}
    known = teacher.ledger.known(unique)
    to_send = [request for key, request in unique.items() if key not in known]
    ratio, counted = asyncio.run(_input_ratio(teacher, to_send))
    pace = teacher.ledger.pace(teacher.name, teacher.prompt_version, requests[0].kind if requests else "")
    cost = estimate(teacher, to_send, input_ratio=ratio, mean_output=pace[0] if pace else None)
    cached = 1 - len(to_send) / max(1, len(unique))
    source = f"by {counted} that the service counted" if counted else "estimated"
    print(f"{label}: dry run, teacher={teacher.name}")
    print(f"  requests  {cost.requests} to send, {cached:.1%} of {len(requests)} are in the ledger")
    print(f"  tokens    {cost.input_tokens} in ({source}), {cost.output_tokens} out "
          f"({'as before' if pace else 'estimated'})")  # fmt: skip
    print(
        f"  price     {'unknown: conf/prices.yaml' if cost.usd is None else f'{cost.usd:.2f} USD, without repairs'}"
    )
    print(f"  time      {_time(teacher, len(to_send), pace[1] if pace else None)}")
    teacher.ledger.close()
    raise SystemExit(0)


def _time(teacher: Teacher, requests: int, timed: float | None) -> str:
    if teacher.answers_in_batches:
        return "within 24 hours, by Message Batches"
    minutes = (timed or _SECONDS) * requests / teacher.concurrency / 60
    speed = "as before" if timed else f"at {_SECONDS:.0f} s per request"
    return f"{minutes:.1f} min at concurrency {teacher.concurrency} ({speed})"


async def _input_ratio(teacher: Teacher, requests: Sequence[Request]) -> tuple[float, int]:
    """The service's count of input tokens over ours, and the number of requests counted; (1.0, 0) without a count."""
    sample = requests[:: max(1, len(requests) // _SAMPLE)][:_SAMPLE]
    try:
        counts = [await teacher.count_tokens(request) for request in sample]
    except AresError:
        counts = []  # no key
    await teacher.close()
    counted = [count for count in counts if count is not None]
    ours = sum(teacher.expected_tokens(request)[0] for request in sample)
    complete = counted and len(counted) == len(sample) and ours
    return (sum(counted) / ours, len(counted)) if complete else (1.0, 0)
