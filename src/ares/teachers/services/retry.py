"""Retries: which failures are temporary, how long to wait, and when to give up.

The SDKs' own retries are off: they wait for any `retry-after`, however long, and do not report which attempts may
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
from ares.teachers.services.limits import RateLimitGate, requested_wait
from ares.types import AresError

T = TypeVar("T")

_BUSY = (429, 503, 529)
_TEMPORARY = (408, 409, 429)  # and everything from 500 on
# Nothing was generated; after a gateway's time-out (504) it may have been.
_FREE = (*_TEMPORARY, 500, 502, 503, 529)
# The least seconds for the last attempt, to distinguish an absent service from a slow one.
_LAST_ATTEMPT = 1.0


@dataclass(frozen=True)
class RetryPolicy:
    """Seconds: `timeout` of one attempt, `deadline` of all; pauses double from `first` up to `longest`.

    Time spent at the `RateLimitGate` does not count towards the deadline. A request is given up after `attempts`
    failures, not counting those that mean that the service answers no request at all.
    """

    timeout: float = 120.0
    deadline: float = 900.0
    first: float = 0.5
    longest: float = 30.0
    attempts: int = 12


@dataclass(frozen=True)
class Failure:
    """One failed attempt: `temporary` ones are repeated; `unavailable`: the service answers no request.

    `paid`: the reply may have been generated. `wait`: seconds for which the service asks to send nothing.
    `local`: no request can be sent at all.
    """

    reason: str
    temporary: bool
    unavailable: bool = False
    paid: bool = False
    wait: float = 0.0
    local: bool = False


def failure_of(error: Exception, sdk: ModuleType) -> Failure:
    """What an exception of `anthropic` or `openai` (which share their names) means for a request."""
    if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
        return Failure(f"no connection ({error.__cause__ or error})", temporary=True, unavailable=True)
    if type(error.__cause__).__name__ in ("LocalProtocolError", "UnsupportedProtocol", "InvalidURL"):
        return Failure(str(error.__cause__), temporary=False, local=True)
    if isinstance(error, TimeoutError | sdk.APITimeoutError):
        return Failure("no reply in time", temporary=True, paid=True)
    if isinstance(error, sdk.APIStatusError):
        status, wait = error.status_code, requested_wait(error.response.headers)
        reason = f"{status}: {error.message}"
        temporary, paid = status in _TEMPORARY or status >= 500, status >= 500 and status not in _FREE
        return Failure(reason, temporary, unavailable=status in _BUSY, paid=paid, wait=wait)
    if isinstance(error, sdk.APIConnectionError) or _is_transport_error(error):
        return Failure(f"a broken connection ({error.__cause__ or error})", temporary=True, paid=True)
    if isinstance(error, sdk.APIError | ValueError):
        # Not JSON, or not of the expected form: JSONDecodeError, ValidationError ...
        return Failure(f"a broken reply ({type(error).__name__}: {error})", temporary=True, paid=True)
    raise error


async def call_with_retries(
    call: Callable[[], Awaitable[T]],
    failure: Callable[[Exception], Failure],
    before_repeat: Callable[[], Awaitable[None]] | None,
    policy: RetryPolicy,
    gate: RateLimitGate,
) -> T:
    """The result of `call`, repeated until it succeeds or the `policy` says to give up.

    `before_repeat` is awaited before repeating an attempt that may have been paid for. Raises AresError if the
    service answers no request, otherwise Unanswered; exceptions of `failure` are raised immediately.
    """
    began = time.monotonic()
    deadline = began + policy.deadline
    failures = pauses = 0
    while True:
        deadline += await gate.wait(began, policy.deadline)
        try:
            remaining = max(_LAST_ATTEMPT, deadline - time.monotonic())
            async with asyncio.timeout(min(policy.timeout, remaining)):
                reply = await call()
            gate.answered()
            return reply
        except Exception as error:
            found = failure(error)
        failures += not found.unavailable
        pause = 0.0 if found.wait else _pause(pauses, policy)
        pauses += not found.wait
        late = time.monotonic() + pause > deadline
        if not found.temporary or failures >= policy.attempts or late:
            break
        if found.paid and before_repeat:
            await before_repeat()
        if found.wait:
            gate.hold(max(found.wait, policy.first), found.reason)
        await asyncio.sleep(pause)
    raise _given_up(found)


def _given_up(last: Failure) -> AresError | Unanswered:
    if last.temporary and last.unavailable:
        return AresError(
            f"The Teacher's service does not answer ({last.reason}); replies that are paid for are in the ledger: run "
            "the same command again later."
        )
    return Unanswered(last.reason, paid=last.paid)


def _is_transport_error(error: Exception) -> bool:
    """Whether an exception is the HTTP library's own: the SDKs do not wrap those of streamed bodies."""
    return any(kind.__name__ == "RequestError" for kind in type(error).__mro__)


def _pause(pauses: int, policy: RetryPolicy) -> float:
    return min(policy.longest, policy.first * 2 ** min(pauses, 20)) * random.uniform(0.5, 1.0)
