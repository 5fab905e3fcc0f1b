"""A service's rate limits: what the headers of its replies ask for, and a gate that holds all requests back."""

import asyncio
import random
import re
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from ares.types import AresError

# Anthropic's headers (a moment) and those of OpenAI-compatible services (a duration, "6m0s").
_LIMITS = (
    *(
        (f"anthropic-ratelimit-{what}-remaining", f"anthropic-ratelimit-{what}-reset")
        for what in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
    *((f"x-ratelimit-remaining-{what}", f"x-ratelimit-reset-{what}") for what in ("requests", "tokens")),
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WARN_AFTER = 60.0  # seconds


class RateLimitGate:
    """Holds back all requests to a service while its rate limit, which they share, is exceeded."""

    def __init__(self) -> None:
        self._until = self._answered = self._warned = 0.0
        self._reason = ""

    def read(self, headers: Mapping[str, str]) -> None:
        """Applies the rate limits in the headers of a reply."""
        if wait := requested_wait(headers):
            self.hold(wait, "its rate limit is used up")

    def hold(self, seconds: float, reason: str) -> None:
        """Holds back everything that is sent within the next `seconds`."""
        until = time.monotonic() + seconds
        if until > self._until:
            self._until, self._reason = until, reason

    def answered(self) -> None:
        """Records that a request was answered: the service lets some through."""
        self._answered = time.monotonic()

    async def wait(self, since: float, longest: float) -> float:
        """Waits until requests may be sent; returns the seconds waited.

        Raises AresError immediately if no request would have been answered for more than `longest` seconds by
        then, counted from `since` (time.monotonic()) at the earliest.
        """
        began = time.monotonic()
        while (pause := self._until - time.monotonic()) > 0:
            if self._until - max(since, self._answered) > longest:
                raise AresError(
                    f"The Teacher's service does not answer ({self._reason}): it asks to wait for {pause:.0f} s, and "
                    f"would have answered no request for more than teacher.deadline={longest:g} s by then; replies that "
                    "are paid for are in the ledger: run the same command again later."
                )
            if pause > _WARN_AFTER and self._until > self._warned + _WARN_AFTER:
                self._warned = self._until
                note = f"the Teacher's service holds requests back for {pause:.0f} s ({self._reason})"
                print(f"warning: {note}", file=sys.stderr)
            # Jitter, so that not all requests are sent at the same moment.
            await asyncio.sleep(pause * random.uniform(1.0, 1.1))
        return time.monotonic() - began


def requested_wait(headers: Mapping[str, str]) -> float:
    """Seconds for which a reply's headers ask to send nothing; 0 if they do not.

    By `retry-after-ms` or `retry-after`, otherwise until the exhausted limits are renewed.
    """
    try:
        if milliseconds := max(0.0, float(headers.get("retry-after-ms", ""))):
            return milliseconds / 1000
    except ValueError:
        pass
    if wait := seconds_until(headers.get("retry-after")):
        return wait
    resets = (headers.get(reset) for remaining, reset in _LIMITS if headers.get(remaining) == "0")
    return max(map(seconds_until, resets), default=0.0)


def seconds_until(value: str | None) -> float:
    """Seconds from now to the time in a header: seconds, a duration ("1m30s"), an HTTP date or an RFC 3339 time.

    0 if it has passed or cannot be read.
    """
    if not value:
        return 0.0
    if _DURATION.fullmatch(value):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
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
