"""Asking a service until it answers: which failures pass, how long to wait, and when to give up.

The SDKs' own retries are off: they obey any `retry-after`, however long, and do not say which attempts may
have been paid for.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

from ares.teachers.messages import Unanswered
from ares.teachers.services.limits import RateLimitGate, asked_wait
from ares.types import AresError

T = TypeVar("T")

_BUSY = (429, 503, 529)
_PASSING = (408, 409, 429)  # and all from 500 on
_FREE = (*_PASSING, 500, 502, 503, 529)  # nothing was generated; a gateway that waits in vain cannot tell

_LEAST = (
    1.0  # seconds of the last attempt: a service that nobody reaches is not to look like one that is slow
)


@dataclass(frozen=True)
class RetryPolicy:
    """Seconds: `timeout` of one attempt, `deadline` of all; pauses double from `first` up to `longest`.

    While the service asks to wait (`limits.RateLimitGate`) the deadline stands still; but nobody waits when for
    `deadline` seconds nobody was answered. `attempts`: after so many failures a request is given up, those
    apart by which the service answers nobody.
    """

    timeout: float = 120.0
    deadline: float = 900.0
    first: float = 0.5
    longest: float = 30.0
    attempts: int = 12


@dataclass(frozen=True)
class Failure:
    """One failed attempt: `passing` ones are tried again; `away` says that the service answers nobody.

    `paid`: the reply may have been generated. `after`: seconds that the service asks all to wait. `local`:
    nothing was sent, since no request can be.
    """

    reason: str
    passing: bool
    away: bool = False
    paid: bool = False
    after: float = 0.0
    local: bool = False


def failure_of(error: Exception, sdk: ModuleType) -> Failure:
    """What an exception of `anthropic` or `openai` (which share their names) means for a request."""
    if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
        return Failure(f"no connection ({error.__cause__ or error})", passing=True, away=True)
    if type(error.__cause__).__name__ in ("LocalProtocolError", "UnsupportedProtocol", "InvalidURL"):
        return Failure(str(error.__cause__), passing=False, local=True)
    if isinstance(error, TimeoutError | sdk.APITimeoutError):
        return Failure("no reply in time", passing=True, paid=True)
    if isinstance(error, sdk.APIStatusError):
        status, after = error.status_code, asked_wait(error.response.headers)
        reason = f"{status}: {error.message}"
        passing, paid = status in _PASSING or status >= 500, status >= 500 and status not in _FREE
        return Failure(reason, passing, away=status in _BUSY, paid=paid, after=after)
    if isinstance(error, sdk.APIConnectionError) or _is_of_transport(error):
        return Failure(f"a broken connection ({error.__cause__ or error})", passing=True, paid=True)
    if isinstance(error, sdk.APIError | ValueError):
        # A reply that is no JSON, or not of the expected form: JSONDecodeError, ValidationError ...
        return Failure(f"a broken reply ({type(error).__name__}: {error})", passing=True, paid=True)
    raise error


async def call_with_retries(
    call: Callable[[], Awaitable[T]],
    failure: Callable[[Exception], Failure],
    lost: Callable[[], Awaitable[None]],
    patience: RetryPolicy,
    brake: RateLimitGate,
) -> T:
    """The result of `call`, tried until it succeeds or `patience` ends; `lost` is awaited before repeating an
    attempt that may have been paid for.

    Raises AresError where the service answers nobody, else Unanswered; what `failure` raises, at once.
    """
    began = time.monotonic()
    deadline = began + patience.deadline
    failures = pauses = 0
    while True:
        deadline += await brake.wait(began, patience.deadline)
        try:
            rest = max(_LEAST, deadline - time.monotonic())
            async with asyncio.timeout(min(patience.timeout, rest)):
                reply = await call()
            brake.answered()
            return reply
        except Exception as error:
            found = failure(error)
        failures += not found.away
        pause = 0.0 if found.after else _pause(pauses, patience)
        pauses += not found.after
        late = time.monotonic() + pause > deadline
        if not found.passing or failures >= patience.attempts or late:
            break
        if found.paid:
            await lost()
        if found.after:
            brake.hold(max(found.after, patience.first), found.reason)
        await asyncio.sleep(pause)
    raise _given_up(found)


def _given_up(last: Failure) -> AresError | Unanswered:
    if last.passing and last.away:
        return AresError(
            f"The Teacher's service does not answer ({last.reason}); nothing that is paid for is lost: give the "
            "same command again when it does."
        )
    return Unanswered(last.reason, paid=last.paid)


def _is_of_transport(error: Exception) -> bool:
    """Whether an exception is the HTTP library's own: the SDKs pass it on where a body comes as a stream."""
    return any(kind.__name__ == "RequestError" for kind in type(error).__mro__)


def _pause(pauses: int, patience: RetryPolicy) -> float:
    return min(patience.longest, patience.first * 2 ** min(pauses, 20)) * random.uniform(0.5, 1.0)
