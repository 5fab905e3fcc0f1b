"""Asking a service until it answers: which failures pass, how long to wait, and when to give up.

The SDKs' own retries are off: they obey any `retry-after`, however long, and do not say which attempts may
have been paid for.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import count
from types import ModuleType
from typing import TypeVar

from ares.teachers.messages import Unanswered
from ares.types import AresError

T = TypeVar("T")

_BUSY = (429, 503, 529)
_FREE = (408, 409, 429, 500, 502, 503, 504, 529)  # nothing was generated, so nothing is paid


@dataclass(frozen=True)
class Patience:
    """Seconds: `timeout` of one attempt, `deadline` of all; pauses double from `first` up to `longest`.

    `attempts`: after so many a request is given up, unless it is the service that answers nobody.
    """

    timeout: float = 120.0
    deadline: float = 900.0
    first: float = 0.5
    longest: float = 30.0
    attempts: int = 12


@dataclass(frozen=True)
class Failure:
    """One failed attempt: `passing` ones are tried again; `away` says that the service answers nobody.

    `paid`: the reply may have been generated. `after`: seconds that the service asks to wait. `local`: nothing
    was sent, since no request can be.
    """

    reason: str
    passing: bool
    away: bool = False
    paid: bool = False
    after: float | None = None
    local: bool = False


class Brake:
    """Holds all requests back until a rate limit that is used up is renewed."""

    def __init__(self) -> None:
        self._until = 0.0

    def read(self, headers: Mapping[str, str]) -> None:
        """Takes in `anthropic-ratelimit-<what>-remaining: 0` and `-reset: <RFC 3339 time>`."""
        for what in ("requests", "tokens", "input-tokens", "output-tokens"):
            if headers.get(f"anthropic-ratelimit-{what}-remaining") == "0":
                wait = seconds_until(headers.get(f"anthropic-ratelimit-{what}-reset"))
                self._until = max(self._until, time.monotonic() + wait)

    async def wait(self, longest: float) -> None:
        """Waits for the renewal, `longest` seconds at most."""
        pause = min(self._until - time.monotonic(), longest)
        if pause > 0:
            # Not all at once when it is over.
            await asyncio.sleep(pause * random.uniform(1.0, 1.1))


def seconds_until(value: str | None) -> float:
    """Seconds from now to an HTTP header's time: seconds, an HTTP date or an RFC 3339 time; 0 if unreadable."""
    if not value:
        return 0.0
    for read in (
        float,
        lambda text: datetime.fromisoformat(text).timestamp() - time.time(),
        lambda text: parsedate_to_datetime(text).timestamp() - time.time(),
    ):
        try:
            return max(0.0, read(value))
        except (ValueError, TypeError):
            continue
    return 0.0


def failure_of(error: Exception, sdk: ModuleType) -> Failure:
    """What an exception of `anthropic` or `openai` (which share their names) means for a request."""
    if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
        return Failure(f"no connection ({error.__cause__ or error})", passing=True, away=True)
    if type(error.__cause__).__name__ in ("LocalProtocolError", "UnsupportedProtocol", "InvalidURL"):
        return Failure(str(error.__cause__), passing=False, local=True)
    if isinstance(error, TimeoutError | sdk.APITimeoutError):
        return Failure("no reply in time", passing=True, paid=True)
    if isinstance(error, sdk.APIStatusError):
        status, headers = error.status_code, error.response.headers
        after = seconds_until(headers.get("retry-after")) if "retry-after" in headers else None
        reason = f"{status}: {error.message}"[:300]
        return Failure(reason, passing=status in _FREE or status >= 500, away=status in _BUSY, after=after)
    if isinstance(error, sdk.APIConnectionError):
        return Failure(f"a broken connection ({error.__cause__ or error})", passing=True, paid=True)
    if isinstance(error, sdk.APIError | ValueError):
        # A reply that is no JSON, or not of the expected form: JSONDecodeError, ValidationError ...
        return Failure(f"a broken reply ({type(error).__name__}: {error})"[:300], passing=True, paid=True)
    raise error


async def persist(
    call: Callable[[], Awaitable[T]],
    failure: Callable[[Exception], Failure],
    lost: Callable[[], Awaitable[None]],
    patience: Patience,
    brake: Brake,
) -> T:
    """The result of `call`, tried until it succeeds or `patience` ends; `lost` is awaited before repeating an
    attempt that may have been paid for.

    Raises AresError where the service answers nobody, else Unanswered; what `failure` raises, at once.
    """
    deadline = time.monotonic() + patience.deadline
    for attempt in count():
        await brake.wait(deadline - time.monotonic())
        try:
            async with asyncio.timeout(min(patience.timeout, max(0.0, deadline - time.monotonic()))):
                return await call()
        except Exception as error:
            found = failure(error)
        pause = _pause(attempt, found.after, patience)
        spent = attempt + 1 >= patience.attempts and not found.away
        if not found.passing or spent or time.monotonic() + pause > deadline:
            break
        if found.paid:
            await lost()
        await asyncio.sleep(pause)
    if found.passing and found.away:
        raise AresError(
            f"The Teacher's service does not answer ({found.reason}); nothing that is paid for is lost: give the "
            "same command again when it does."
        )
    raise Unanswered(found.reason, paid=found.paid)


def _pause(attempt: int, after: float | None, patience: Patience) -> float:
    if after is not None:
        return after * random.uniform(1.0, 1.1)
    return min(patience.longest, patience.first * 2 ** min(attempt, 20)) * random.uniform(0.5, 1.0)
