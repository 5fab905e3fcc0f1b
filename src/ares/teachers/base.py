"""What every Teacher is: it scores sentences, repairs rationales and judges pairs, one request at a time.

A subclass says how a request looks (`score_payload`, `correct_payload`, `judge_payload`), sends it (`send`)
and names all that its replies depend on (`fingerprint`). Everything else is here: requests go through the
ledger, replies through `parsing`, and what cannot be read comes back as a FeedbackError, to be quarantined by
the caller.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ares.store import hash_of
from ares.teachers.parsing import (
    FeedbackError,
    Winner,
    parse_correction,
    parse_grouped_scores,
    parse_verdict,
)
from ares.types import Problem

if TYPE_CHECKING:
    from ares.teachers.ledger import Ledger

Kind = Literal["score", "correct", "judge"]


@dataclass(frozen=True)
class Request:
    """One question to a Teacher; `payload` is JSON that decides the reply, images enter it by sha256."""

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
    """What came back; `usd` is None if the price is unknown, `cached` says that nothing was sent."""

    text: str
    input_tokens: int
    output_tokens: int
    usd: float | None
    cached: bool = False


@dataclass(frozen=True)
class ScoreResult:
    """The scores in [0, 1] of one rationale's sentences; without sentences none, and no request."""

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


@dataclass
class Usage:
    """What a Teacher was asked so far: `requests` were sent, `cached` came from the ledger."""

    requests: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0

    def add(self, reply: Reply) -> None:
        """Counts one reply; a cached one cost nothing."""
        if reply.cached:
            self.cached += 1
            return
        self.requests += 1
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens
        self.usd += reply.usd or 0.0


class Teacher(ABC):
    """A source of sentence scores, repairs and verdicts.

    `name` and `prompt_version` are part of every request; without a `ledger` every request is sent.
    """

    def __init__(self, name: str, prompt_version: str, ledger: "Ledger | None" = None) -> None:
        self.name = name
        self.prompt_version = prompt_version
        self.ledger = ledger
        self.usage = Usage()

    @abstractmethod
    def score_payload(self, problem: Problem, rationales: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The request for the scores of all sentences of a question's rationales, none of them empty."""

    @abstractmethod
    def correct_payload(self, problem: Problem, rationale: str, sentences: Sequence[str]) -> dict[str, Any]:
        """The request to repair a rationale with these sentences (none if it is empty)."""

    @abstractmethod
    def judge_payload(self, problem: Problem, first: str, second: str) -> dict[str, Any]:
        """The request to compare two rationales of a question."""

    @abstractmethod
    async def send(self, request: Request) -> Reply:
        """Sends a request and returns the reply."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """All that replies depend on beside the requests (model, prompt version ...), as JSON."""

    async def score(self, problem: Problem, rationales: Sequence[Sequence[str]]) -> list[ScoreResult]:
        """Scores a question's rationales, without `Solution:` (see `prompts`), in one request."""
        asked = [sentences for sentences in rationales if sentences]
        if not asked:
            return [ScoreResult([], "") for _ in rationales]
        request, reply = await self._ask("score", self.score_payload(problem, asked))
        parts = iter(parse_grouped_scores(reply.text, [len(sentences) for sentences in asked]))
        return [
            ScoreResult(next(parts), request.hash) if sentences else ScoreResult([], "")
            for sentences in rationales
        ]

    async def correct(self, problem: Problem, rationale: str, sentences: Sequence[str]) -> CorrectResult:
        """Repairs a rationale; `sentences` are those of `rationale`, in order, without `Solution:`."""
        request, reply = await self._ask("correct", self.correct_payload(problem, rationale, sentences))
        try:
            return CorrectResult(parse_correction(reply.text), request.hash)
        except FeedbackError as error:
            return CorrectResult(error, request.hash)

    async def judge(self, problem: Problem, first: str, second: str) -> JudgeResult:
        """Compares two rationales; ask in both orders to see whether the order decides."""
        request, reply = await self._ask("judge", self.judge_payload(problem, first, second))
        try:
            return JudgeResult(parse_verdict(reply.text), request.hash)
        except FeedbackError as error:
            return JudgeResult(error, request.hash)

    async def _ask(self, kind: Kind, payload: dict[str, Any]) -> tuple[Request, Reply]:
        request = Request(kind, self.name, self.prompt_version, payload)
        reply = await (self.ledger.ask(request, self.send) if self.ledger else self.send(request))
        self.usage.add(reply)
        return request, reply
