"""The base class of all Teachers: it scores sentences, repairs rationales and judges pairs.

A subclass builds requests (`score_payload`, `correct_payload`, `judge_payload`), sends them (`send`) and lists
everything that its replies depend on (`fingerprint`). After an unreadable reply it is asked once more if it
supports that (`repair_payload`); if that fails too, the result is a FeedbackError, which the caller quarantines.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ares.storage.files import hash_of
from ares.teachers.messages import (
    CorrectResult,
    JudgeResult,
    Kind,
    Reply,
    Request,
    ScoreResult,
    Stopped,
    Unanswered,
    Unaskable,
    Usage,
)
from ares.teachers.needs import check_needs
from ares.teachers.parsing import FeedbackError, parse_correction, parse_grouped_scores, parse_verdict
from ares.types import AresError, Problem

if TYPE_CHECKING:
    from ares.teachers.ledger.ledger import Ledger

Reader = Callable[[str], list[Any]]  # from a reply's text to answers, with FeedbackErrors for unreadable ones
_STOPS = {"refusal": "the Teacher refused", "max_tokens": "the reply is cut off at max_tokens"}


class Teacher(ABC):
    """A source of sentence scores, repairs and verdicts; one object serves one event loop.

    `name` and `prompt_version` are part of every request; without a `ledger` every request is sent, at most `concurrency`
    at once. `group`: how many rationales of a question share a request, "k" (all) or 1; `shuffled`: in a drawn order.
    """

    package: ClassVar[str] = ""  # the package that it needs, if any
    key_variable: ClassVar[str] = ""  # the environment variable that holds its key, if any
    costs_money: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()  # artefacts of the run, given as arguments of the same names
    shuffled: ClassVar[bool] = False
    answers_in_batches = False  # within a day

    def __init__(
        self,
        name: str,
        prompt_version: str,
        ledger: "Ledger | None" = None,
        *,
        group: str | int = "k",
        concurrency: int | None = None,
    ) -> None:
        if str(group) not in ("k", "1"):
            raise AresError(f"teacher.group={group}: choose from k, 1.")
        self.name, self.prompt_version, self.ledger = name, prompt_version, ledger
        self.grouped = str(group) == "k"
        self.usage = Usage()
        self.concurrency = concurrency or 1_000_000
        self._slots = asyncio.Semaphore(self.concurrency)
        self._stopped = False
        self._planned: list[Request] | None = None

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
        """Sends a request and returns the reply; raises Unanswered, or AresError if the step must stop."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Everything that replies depend on apart from the requests (model, prompt version ...), as JSON."""

    def check(self) -> list[str]:
        """Raises AresError if requests cannot succeed (no key, no package); returns warnings."""
        check_needs(self.name, self.package, self.key_variable)
        return []

    def repair_payload(self, payload: Mapping[str, Any], reply: Reply, reason: str) -> dict[str, Any] | None:
        """The request that asks again after an unusable reply; None if that is pointless."""
        return None

    def read_scores(
        self, text: str, rationales: Sequence[Sequence[str]]
    ) -> list[list[float] | FeedbackError]:
        """The scores in a reply, one entry per rationale, in the order of the request."""
        return parse_grouped_scores(text, [len(sentences) for sentences in rationales])

    def read_correction(self, text: str) -> str:
        """The repaired rationale in a reply; raises FeedbackError."""
        return parse_correction(text)

    @property
    def priced(self) -> bool:
        """Whether the price of requests is known."""
        return self.usd(0, 0) is not None

    def usd(self, input_tokens: int, output_tokens: int) -> float | None:
        """The price of this many tokens (US dollars); None if it is unknown."""
        return 0.0

    def expected_tokens(self, request: Request) -> tuple[int, int]:
        """The likely input and output tokens of a request."""
        return 0, 0

    async def count_tokens(self, request: Request) -> int | None:
        """The input tokens of a request by the service's own count, free of charge; None without one."""
        return None

    def max_cost_usd(self, request: Request) -> float | None:
        """The most that sending a request once can cost; None if the price is unknown."""
        return 0.0

    async def close(self) -> None:
        """Closes connections; nothing is sent afterwards."""
        self.stop()

    def stop(self) -> None:
        """Sends nothing from now on; open requests are completed."""
        self._stopped = True

    def plan(self) -> list[Request]:
        """Sends nothing from now on; the returned list collects the requests that would be sent."""
        self._planned = []
        return self._planned

    def score_groups(self, problem: Problem, rationales: Sequence[Sequence[str]]) -> list[list[int]]:
        """The indices of the rationales in each request, in their order there; empty rationales are left out."""
        asked = [index for index, sentences in enumerate(rationales) if sentences]
        if not self.grouped:
            return [[index] for index in asked]
        if self.shuffled:
            asked.sort(key=lambda index: hash_of([problem.pid, index, list(rationales[index])]))
        return [asked] if asked else []

    def request(self, kind: Kind, payload: Mapping[str, Any]) -> Request:
        """The request with this payload."""
        return Request(kind, self.name, self.prompt_version, payload)

    def score_requests(
        self, problem: Problem, rationales: Sequence[Sequence[str]]
    ) -> list[tuple[list[int], Request]]:
        """The requests that score a question's rationales, each with the indices of the rationales in it."""
        return [
            (group, self.request("score", self.score_payload(problem, [rationales[i] for i in group])))
            for group in self.score_groups(problem, rationales)
        ]

    async def score(self, problem: Problem, rationales: Sequence[Sequence[str]]) -> list[ScoreResult]:
        """Scores a question's rationales, given as sentences without `Solution:` (see `prompts`)."""
        try:
            requests = self.score_requests(problem, rationales)
        except Unaskable as error:
            reason = FeedbackError(str(error))
            return [ScoreResult(reason if sentences else [], "") for sentences in rationales]
        results = [ScoreResult([], "") for _ in rationales]

        async def one(group: list[int], request: Request) -> None:
            read = partial(self.read_scores, rationales=[rationales[index] for index in group])
            found = await self._answer(request, read, len(group))
            for index, (scores, request_hash) in zip(group, found, strict=True):
                results[index] = ScoreResult(scores, request_hash)

        # All requests are completed before an error is raised: paid replies must be recorded.
        for outcome in await asyncio.gather(*(one(*item) for item in requests), return_exceptions=True):
            if outcome is not None:
                raise outcome
        return results

    async def correct(self, problem: Problem, rationale: str, sentences: Sequence[str]) -> CorrectResult:
        """Repairs a rationale without `Solution:`; `sentences` are its sentences, in order."""
        payload = partial(self.correct_payload, problem, rationale, sentences)
        return CorrectResult(*await self._ask_one("correct", payload, self.read_correction))

    async def judge(self, problem: Problem, first: str, second: str) -> JudgeResult:
        """Compares two rationales; ask in both orders to see whether the order matters."""
        payload = partial(self.judge_payload, problem, first, second)
        return JudgeResult(*await self._ask_one("judge", payload, parse_verdict))

    async def _ask_one(
        self, kind: Kind, payload: Callable[[], dict[str, Any]], parse: Callable[[str], Any]
    ) -> tuple[Any, str]:
        def read(text: str) -> list[Any]:
            try:
                return [parse(text)]
            except FeedbackError as error:
                return [error]

        try:
            request = self.request(kind, payload())
        except Unaskable as error:
            return FeedbackError(str(error)), ""
        [answer] = await self._answer(request, read)
        return answer

    async def _answer(self, request: Request, read: Reader, count: int = 1) -> list[tuple[Any, str]]:
        """`count` answers that `read` finds in the reply, each with the hash of its request."""
        # A repair keeps its slot: queued last, it would reveal a useless Teacher only when everything is paid.
        async with self._slots:
            reply, found = await self._ask(request, read, count)
            again = None
            if reply and (errors := [item for item in found if isinstance(item, FeedbackError)]):
                again = self.repair_payload(request.payload, reply, errors[0].reason)
            if again is None:
                return [(item, request.hash) for item in found]
            repair = self.request(request.kind, again)
            _, repaired = await self._ask(repair, read, count)
        return [
            (new, repair.hash) if isinstance(old, FeedbackError) else (old, request.hash)
            for old, new in zip(found, repaired, strict=True)
        ]

    async def _ask(self, request: Request, read: Reader, count: int) -> tuple[Reply | None, list[Any]]:
        try:
            if self._stopped:
                raise Stopped("The step stopped early.")
            reply = await self._send(request)
        except Unanswered as error:
            return None, [error] * count
        self.usage.add(request.hash, reply)
        found = [FeedbackError(_STOPS[reply.stop])] * count if reply.stop else read(reply.text)
        for item in found:
            if isinstance(item, FeedbackError):
                item.reply = reply.text
        return reply, found

    async def _send(self, request: Request) -> Reply:
        if self._planned is not None:
            self._planned.append(request)
            raise Unanswered("not sent")
        if self.ledger is None:
            return await self.send(request)
        return await self.ledger.ask(request, self.send, max_cost=self.max_cost_usd(request))
