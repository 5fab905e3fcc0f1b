"""The faults of requests, drawn from hash(request, attempt), so that every run has the same ones.

Mistakes of the model (`CONTENT`) are drawn from the request alone: asked again, it makes the same mistake.
"""

from collections import Counter
from typing import Any

from answers import fraction

TRANSPORT = (
    *("rate_limit", "overloaded", "server_error", "slow_drip", "time_out", "reset"),
    *("malformed", "not_json"),
)
CONTENT = ("wrong_count", "refusal", "max_tokens")
BATCH = ("errored", "expired", "missing", "duplicate")


class Faults:
    """`rate` of all requests fail, in the `kinds` alike; `script` and `content_script` name the fault of each
    attempt and of each turn of a conversation instead ("ok" or beyond their ends: none); `opening` those of the
    server's first attempts, whatever they ask. `batch_refused` is the message with which batches refuse all."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.rate = options.get("faults", 0.0)
        self.kinds = options.get("kinds", [*TRANSPORT, *CONTENT])
        self.script, self.content_script = options.get("script"), options.get("content_script")
        self.opening: list[str] = options.get("opening", [])
        self.batch_rate = options.get("batch_faults", 0.0)
        self.batch_refused: str | None = options.get("batch_refused")
        self.attempts: Counter[str] = Counter()
        self.submissions: Counter[str] = Counter()

    def transport(self, name: str) -> str:
        """The fault of the next attempt of a request, "ok" if none."""
        self.attempts[name] += 1
        attempt = self.attempts[name]
        if self.opening:
            return self.opening.pop(0)
        if self.script is not None:
            return self.script[attempt - 1] if attempt <= len(self.script) else "ok"
        return self._drawn([kind for kind in self.kinds if kind in TRANSPORT], name, attempt)

    def content(self, name: str, turn: int) -> str:
        """The model's mistake in the answer to a request, "ok" if none."""
        if self.content_script is not None:
            return self.content_script[turn] if turn < len(self.content_script) else "ok"
        return self._drawn([kind for kind in self.kinds if kind in CONTENT], name, "content")

    def batch(self, custom_id: str) -> str:
        """The outcome of a request in a batch."""
        self.submissions[custom_id] += 1
        if self.batch_refused is not None:
            return "refused"
        draw = fraction("batch", custom_id, self.submissions[custom_id])
        return BATCH[int(draw / self.batch_rate * len(BATCH))] if draw < self.batch_rate else "ok"

    def _drawn(self, kinds: list[str], name: str, attempt: object) -> str:
        rate = self.rate * len(kinds) / len(self.kinds)
        draw = fraction(name, attempt)
        return kinds[int(draw / rate * len(kinds))] if draw < rate else "ok"
