"""Rate limits: the headers of replies, one gate for all requests, and the longest wait."""

import asyncio
import random
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ares.teachers.messages import Unanswered
from ares.teachers.parsing import FeedbackError
from ares.teachers.services import limits, retry
from ares.teachers.services.anthropic import AnthropicTeacher
from ares.teachers.services.limits import RateLimitGate, requested_wait
from ares.teachers.services.openai import OpenAITeacher
from ares.teachers.services.retry import Failure, RetryPolicy, call_with_retries
from ares.types import AresError

RATIONALES = [["Ice is cold.", "So yes."]]
CLAUDE, OTHER = "anthropic-ratelimit", "x-ratelimit"


def claude(server, **changes):
    return AnthropicTeacher(model="claude-haiku-5-5", base_url=server.url, **changes)


def gpt(server, **changes):
    return OpenAITeacher(model="any", base_url=f"{server.url}/v1", **changes)


BOTH = pytest.mark.parametrize("make", [claude, gpt], ids=["anthropic", "openai"])


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "date in 90"}, 90),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9),
        ({f"{CLAUDE}-tokens-remaining": "0", f"{CLAUDE}-tokens-reset": "time in 40"}, 40),
        ({f"{CLAUDE}-tokens-remaining": "5", f"{CLAUDE}-tokens-reset": "time in 40"}, 0),
        ({f"{CLAUDE}-requests-remaining": "0"}, 0),
        # A limit is renewed in full later than the next request may go.
        ({"retry-after": "2", f"{CLAUDE}-requests-remaining": "0",
          f"{CLAUDE}-requests-reset": "time in 40"}, 2),
        ({f"{OTHER}-remaining-requests": "0", f"{OTHER}-reset-requests": "1h2m3.5s",
          f"{OTHER}-remaining-tokens": "0", f"{OTHER}-reset-tokens": "20ms"}, 3723.5),
        ({f"{OTHER}-remaining-tokens": "12", f"{OTHER}-reset-tokens": "6m0s"}, 0),
    ],
)  # fmt: skip
def test_requested_wait(headers, seconds):
    now = datetime.now(UTC)
    moments = {
        "date in 90": format_datetime(now + timedelta(seconds=90), usegmt=True),
        "time in 40": (now + timedelta(seconds=40)).isoformat(),
    }
    found = requested_wait({name: moments.get(value, value) for name, value in headers.items()})
    assert found == pytest.approx(seconds, abs=5 if moments.keys() & set(headers.values()) else 1e-9)


def ask_two(server, teacher, problem) -> None:
    """Asks a second question when the first one's first reply has closed the gate."""

    async def main():
        first = asyncio.create_task(teacher.score(problem("1"), RATIONALES))
        async with asyncio.timeout(60):
            while not teacher.client.gate._until:
                await asyncio.sleep(0.01)
        found = [*await teacher.score(problem("2"), RATIONALES), *await first]
        await teacher.close()
        assert not any(isinstance(result.scores, FeedbackError) for result in found)

    asyncio.run(main())


@BOTH
@pytest.mark.parametrize("form", ["retry-after", "retry-after-ms", CLAUDE, OTHER])
def test_one_429_holds_back_all_requests(form, make, loopback, problem):
    seconds = 0.5 if form in ("retry-after-ms", OTHER) else 1.0  # the others have no fractions
    headers = {
        "retry-after": {"retry-after": "1"},
        "retry-after-ms": {"retry-after-ms": "500"},
        CLAUDE: {f"{CLAUDE}-tokens-remaining": "0", f"{CLAUDE}-tokens-reset": "+1"},
        OTHER: {f"{OTHER}-remaining-tokens": "0", f"{OTHER}-reset-tokens": "500ms"},
    }
    server = loopback(opening=["rate_limit"], limits=headers[form])
    ask_two(server, make(server), problem)
    refused, *others = server.times
    assert len(others) == 2  # the second request was not sent before
    assert min(others) - refused > 0.9 * seconds


@BOTH
def test_exhausted_limit_holds_back_all_requests(make, loopback, problem):
    server = loopback(headers={f"{OTHER}-remaining-requests": "0", f"{OTHER}-reset-requests": "1s",
                               f"{CLAUDE}-requests-remaining": "1"})  # fmt: skip
    ask_two(server, make(server), problem)
    first, second = server.times
    assert second - first > 0.9


@BOTH
def test_wait_beyond_the_deadline_stops_immediately(make, loopback, problem):
    teacher = make(loopback(opening=["rate_limit"] * 9, retry_after=3600), deadline=900)
    started = time.monotonic()
    with pytest.raises(
        AresError, match=r"not answer \(429: .*rate_limit.*it asks to wait for 3600 s.*deadline=900 s"
    ):
        asyncio.run(teacher.score(problem(), RATIONALES))
    assert time.monotonic() - started < 60


async def nothing() -> None:
    """Nothing to do before a repetition."""


def retried(outcomes, policy: RetryPolicy, gate: RateLimitGate):
    """The result of `call_with_retries` for calls with these outcomes, one after the other."""
    remaining = iter(outcomes)

    async def call():
        outcome = next(remaining)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return asyncio.run(call_with_retries(call, lambda error: error.args[0], nothing, policy, gate))


BUSY = RuntimeError(Failure("429: slower", temporary=True, unavailable=True, wait=0.1))
BROKEN = RuntimeError(Failure("500: broken", temporary=True))
SHORT = RetryPolicy(deadline=0.5, first=0.01)


class Clock:
    """Time (seconds) that advances only during `asyncio.sleep`."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock of the gate and of the retries."""
    clock, sleep = Clock(), asyncio.sleep

    async def advance(seconds):
        clock.now += seconds
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", advance)
    monkeypatch.setattr(limits, "time", clock)
    monkeypatch.setattr(retry, "time", clock)
    return clock


def test_requested_waits_do_not_count_towards_the_deadline_while_others_are_answered(clock):
    gate, outcomes = RateLimitGate(), iter([*[BUSY] * 8, None])

    async def call():
        gate.answered()  # another request, meanwhile
        if error := next(outcomes):
            raise error
        return "reply"

    began = clock.now
    reply = asyncio.run(call_with_retries(call, lambda error: error.args[0], nothing, SHORT, gate))
    assert reply == "reply"
    assert clock.now - began > SHORT.deadline


def test_service_that_only_asks_to_wait_is_given_up(clock):
    began = clock.now
    with pytest.raises(AresError, match=r"429: slower.*deadline=0\.5"):
        retried([BUSY] * 99, SHORT, RateLimitGate())
    assert 0.3 < clock.now - began <= SHORT.deadline


def test_last_attempt_ends_with_the_deadline():
    def late(error):
        assert isinstance(error, TimeoutError)
        return Failure("no reply in time", temporary=True, paid=True)

    policy = RetryPolicy(timeout=200.0, deadline=0.3, first=0.01)
    started = time.monotonic()
    with pytest.raises(Unanswered, match="no reply in time"):
        asyncio.run(call_with_retries(lambda: asyncio.sleep(300), late, nothing, policy, RateLimitGate()))
    assert time.monotonic() - started < 60


def test_unreachable_service_is_not_mistaken_for_a_slow_one_at_the_deadline(clock):
    unreachable = Failure("no connection", temporary=True, unavailable=True)

    async def call():
        await asyncio.sleep(0.1)
        raise ConnectionError

    def failure(error):
        return unreachable if isinstance(error, ConnectionError) else Failure("no reply", True, paid=True)

    policy = RetryPolicy(deadline=0.15, first=0.01)
    with pytest.raises(AresError, match="does not answer"):
        asyncio.run(call_with_retries(call, failure, nothing, policy, RateLimitGate()))


@BOTH
@pytest.mark.parametrize(("timeout", "connect"), [(120, 10), (4, 2)])
def test_connect_timeout_is_shorter_than_the_reply_timeout(make, timeout, connect, loopback):
    client = make(loopback(), timeout=timeout).client.connection
    assert (client.timeout.read, client.timeout.connect) == (timeout, connect)


def test_shorter_hold_does_not_shorten_a_longer_one(slept):
    async def main():
        gate = RateLimitGate()
        gate.hold(100.0, "429: slower")
        gate.hold(0.01, "429: slower")
        waiting = asyncio.create_task(gate.wait(time.monotonic(), 900))
        await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(main())
    assert slept[0] > 99


def test_requested_waits_do_not_count_as_failures():
    gate, policy = RateLimitGate(), RetryPolicy(first=0.01, attempts=3)
    fast = RuntimeError(Failure("429: slower", temporary=True, unavailable=True, wait=0.01))
    assert retried([*[fast] * 9, BROKEN, BROKEN, "reply"], policy, gate) == "reply"
    with pytest.raises(Unanswered, match="500: broken"):
        retried([*[fast] * 9, BROKEN, BROKEN, BROKEN, "reply"], policy, gate)


@pytest.fixture
def slept(monkeypatch):
    """The seconds of all pauses, which pass at once."""
    pauses, sleep = [], asyncio.sleep

    async def pause(seconds):
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", pause)
    return pauses


def test_pauses_double_up_to_the_longest_with_jitter(slept):
    random.seed(0)
    policy = RetryPolicy(first=0.5, longest=4.0)
    for _ in range(40):
        retried([*[BROKEN] * 6, "reply"], policy, RateLimitGate())
    for number, full in enumerate((0.5, 1.0, 2.0, 4.0, 4.0, 4.0)):
        own = slept[number::6]
        assert len(set(own)) == 40
        assert full / 2 <= min(own) < 0.6 * full
        assert 0.9 * full < max(own) <= full


def test_held_requests_return_with_jitter(slept):
    async def first_pause():
        gate = RateLimitGate()
        gate.hold(100.0, "429: slower")
        waiting = asyncio.create_task(gate.wait(time.monotonic(), 900))
        while not slept:
            await asyncio.wait([waiting], timeout=0.001)
        waiting.cancel()
        return slept[0]

    random.seed(0)
    own = []
    for _ in range(40):
        slept.clear()
        own.append(asyncio.run(first_pause()))
    assert len(set(own)) == 40
    assert 99 < min(own) < 102
    assert 108 < max(own) < 110.1


def test_long_wait_is_reported_once(capsys):
    async def main():
        gate = RateLimitGate()
        for seconds in (90.0, 95.0, 0.5):
            gate.hold(seconds, "429: slower")
            waits = (asyncio.wait_for(gate.wait(time.monotonic(), 900), 0.05) for _ in range(3))
            assert {type(e) for e in await asyncio.gather(*waits, return_exceptions=True)} == {TimeoutError}

    asyncio.run(main())
    warning = r"warning: the Teacher's service holds requests back for \d+ s \(429: slower\)\n"
    assert re.fullmatch(warning, capsys.readouterr().err)
