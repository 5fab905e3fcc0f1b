"""Requests to a Teacher, its replies, the results read from them, and usage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from ares.storage.files import hash_of
from ares.teachers.parsing import FeedbackError, Winner
from ares.types import AresError

Kind = Literal["score", "correct", "judge", "grade"]


@dataclass(frozen=True)
class Request:
    """One question to a Teacher; `payload` is JSON that determines the reply, with images as their sha256."""

    kind: Kind
    teacher: str
    prompt_version: str
    payload: Mapping[str, Any]

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of the request's canonical JSON."""
        return hash_of([self.kind, self.teacher, self.prompt_version, self.payload])


@dataclass(frozen=True)
class Reply:
    """A reply; `usd` is None if the price is unknown, `cached` means that nothing was sent.

    `own`: the same step has paid for a cached reply, in an earlier process.
    `stop` is empty, or says why the reply is unusable: `refusal` or `max_tokens`.
    """

    text: str
    input_tokens: int
    output_tokens: int
    usd: float | None
    cached: bool = False
    stop: str = ""
    own: bool = False


class Unanswered(FeedbackError):
    """A request without a reply; `paid` means that it may have cost money nevertheless."""

    def __init__(self, reason: str, *, paid: bool = False) -> None:
        super().__init__(reason)
        self.paid = paid


class Stopped(AresError):
    """A request that was not sent because the step is stopping early."""


class Unaskable(AresError):
    """A question for which no request can be built, such as one with an unreadable image."""


@dataclass(frozen=True)
class ScoreResult:
    """The scores in [0, 1] of one rationale's sentences; empty, and without a request, for an empty rationale."""

    scores: list[float] | FeedbackError
    request_hash: str


@dataclass(frozen=True)
class CorrectResult:
    """The repaired rationale, on one line."""

    text: str | FeedbackError
    request_hash: str


@dataclass(frozen=True)
class JudgeResult:
    """Which of two rationales is better."""

    winner: Winner | FeedbackError
    request_hash: str


@dataclass(frozen=True)
class GradeResult:
    """The numbers that grade one answer."""

    grades: list[float] | FeedbackError
    request_hash: str


@dataclass
class Usage:
    """A step's usage of a Teacher so far: it has paid for `requests`, also in earlier processes; `cached` came from the
    ledger without being paid for by the step, or once more. `answered` holds the hashes of both.
    """

    requests: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    answered: set[str] = field(default_factory=set)

    def add(self, request_hash: str, reply: Reply) -> None:
        """Counts one reply; a cached one costs nothing, unless the step has paid for it before."""
        counted = request_hash in self.answered
        self.answered.add(request_hash)
        if reply.cached and (counted or not reply.own):
            self.cached += 1
            return
        self.requests += 1
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens
        self.usd += reply.usd or 0.0
