"""What Teachers behind a chat API share: prompts, images, one objection to a bad reply, patience and prices."""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ares.teachers.base import Teacher
from ares.teachers.messages import Reply, Request
from ares.teachers.parsing import FeedbackError, parse_correction
from ares.teachers.prompts import default as prompts
from ares.teachers.prompts import paper
from ares.teachers.prompts.default import Prompt
from ares.teachers.services.images import Picture, picture
from ares.teachers.services.limits import RateLimitGate
from ares.teachers.services.prices import image_tokens, most_tokens, price_of
from ares.teachers.services.retry import Failure, RetryPolicy, call_with_retries, failure_of
from ares.teachers.services.settings import check_above_zero, check_address, check_options, check_switches
from ares.types import AresError, Problem

if TYPE_CHECKING:
    from ares.teachers.ledger.ledger import Ledger

_FORMS: dict[str, Any] = {form.NAME: form for form in (prompts, paper)}
_SPARE, _ROOM = 256, 3  # a reply may have this many tokens, and this many times its likely length
_CONNECT = 10.0  # seconds within which a service that is there takes a connection


class ChatTeacher(Teacher):
    """A Teacher that is a chat model.

    `prompt` is default or paper; `structured` asks for JSON by a schema where the prompt has one; `options`
    go into each request as they are (thinking, temperature ...), but for those that are None; `max_tokens`
    None is derived from the question, `base_url` None is the SDK's own. `prices` maps a model to `{input, output}`, US dollars a million tokens.
    """

    shuffled = True
    key: str | None = None  # a secret: no message may show it
    discount = 1.0  # on the prices

    def __init__(
        self,
        *,
        name: str,
        model: str | None,
        prompt: str = "default",
        group: str | int = "k",
        structured: bool = True,
        options: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        concurrency: int = 16,
        timeout: float = 120.0,
        deadline: float = 900.0,
        base_url: str | None = None,
        prices: Mapping[str, Any] | None = None,
        ledger: "Ledger | None" = None,
    ) -> None:
        if not model:
            raise AresError(f"teacher={name} needs a model: teacher.model=<name>.")
        if prompt not in _FORMS:
            raise AresError(f"teacher.prompt={prompt}: choose from {', '.join(_FORMS)}.")
        check_above_zero(name, timeout=timeout, deadline=deadline)
        check_above_zero(name, whole=True, concurrency=concurrency, max_tokens=max_tokens)
        check_switches(name, structured=structured)
        check_options(name, options)
        check_address(name, base_url)
        self.form = _FORMS[prompt]
        if str(group) == "k" and not self.form.GROUPED:
            raise AresError(
                f"teacher.prompt={prompt} scores one rationale a request; add teacher.group=1, or use teacher.prompt=default."
            )
        super().__init__(name, self.form.VERSION, ledger, group=group, concurrency=concurrency)
        self.model, self.structured, self.max_tokens = str(model), structured, max_tokens
        self.base_url = base_url
        self.options = {key: value for key, value in (options or {}).items() if value is not None}
        self.price = price_of(prices, self.model)
        self.patience = RetryPolicy(timeout=timeout, deadline=deadline)
        self.brake = RateLimitGate()
        self.pictures: dict[str, Picture] = {}

    # Requests

    def score_payload(self, problem: Problem, rationales: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The prompt with the question's image, where there is one."""
        return self._payload(problem, self.form.score(problem, rationales, _has_image(problem)))

    def correct_payload(self, problem: Problem, rationale: str, sentences: Sequence[str]) -> dict[str, Any]:
        """The prompt with the question's image, where there is one."""
        return self._payload(problem, self.form.correct(problem, rationale, _has_image(problem)))

    def judge_payload(self, problem: Problem, first: str, second: str) -> dict[str, Any]:
        """The prompt with the question's image, where there is one."""
        return self._payload(problem, self.form.judge(problem, first, second, _has_image(problem)))

    def repair_payload(self, payload: Mapping[str, Any], reply: Reply, reason: str) -> dict[str, Any] | None:
        """The question with the bad reply and what is wrong with it; with more room if it was cut off."""
        if reply.stop == "max_tokens":
            return {**payload, "max_tokens": 2 * payload["max_tokens"]}
        return {**payload, "replied": reply.text, "objection": self.form.objection(reason)}

    def read_scores(
        self, text: str, rationales: Sequence[Sequence[str]]
    ) -> list[list[float] | FeedbackError]:
        """The scores as the prompt's form asks for them."""
        return self.form.read_scores(text, rationales)

    def read_correction(self, text: str) -> str:
        """The repaired rationale, which repeats nothing of the prompt's form; raises FeedbackError."""
        return parse_correction(text, self.form.ECHO)

    def fingerprint(self) -> dict[str, Any]:
        """Its model, prompt and all else that enters requests."""
        return {
            "name": self.name,
            "model": self.model,
            "prompt": self.prompt_version,
            "group": "k" if self.grouped else "1",
            "structured": self.structured,
            "options": self.options,
            "max_tokens": self.max_tokens,
        }

    def _payload(self, problem: Problem, prompt: Prompt) -> dict[str, Any]:
        payload = {
            "model": self.model,
            "max_tokens": self.max_tokens or _SPARE + _ROOM * prompt.answer_tokens,
            "text": prompt.text,
            "schema": prompt.schema if self.structured else None,
            "options": self.options,
            "image": None,
        }
        if _has_image(problem):
            assert problem.image is not None
            shown = picture(problem.image)
            self.pictures[shown.sha256] = shown
            payload["image"] = {
                "sha256": shown.sha256,
                "media_type": shown.media_type,
                "size": [shown.width, shown.height],
            }
        return payload

    # Sending

    @abstractmethod
    async def call(self, payload: Mapping[str, Any]) -> Reply:
        """Sends a request once."""

    @abstractmethod
    def connect(self) -> Any:
        """The SDK's client, opened at its first use."""

    @abstractmethod
    def sdk(self) -> ModuleType:
        """The package that `call` uses."""

    def timeouts(self) -> Any:
        """The SDK's own: those of an attempt, and a shorter one by which a service is away, not slow."""
        timeout = self.patience.timeout
        return self.sdk().Timeout(timeout, connect=min(_CONNECT, timeout / 2))

    async def send(self, request: Request) -> Reply:
        """Sends a request until it is answered (`retry.call_with_retries`)."""
        self.connect()  # importing the SDK takes seconds, which are not to count as a request's

        async def lost() -> None:
            if self.ledger:
                await self.ledger.reserve(self.max_cost_usd(request) or 0.0)

        return await call_with_retries(
            lambda: self.call(request.payload), self.failure, lost, self.patience, self.brake
        )

    def failure(self, error: Exception) -> Failure:
        """What a failed attempt means; raises AresError where all attempts would fail alike."""
        if isinstance(error, AresError):
            raise error
        sdk = self.sdk()
        if isinstance(error, sdk.APIStatusError) and error.status_code in (401, 402, 403, 404):
            hint = "; correct teacher.model or teacher.base_url" if error.status_code == 404 else ""
            raise AresError(
                f"teacher={self.name} (model {self.model}): the service refuses all requests with "
                f"{error.status_code}: {self.redacted(str(error.message))}{hint}"
            ) from None
        found = failure_of(error, sdk)
        if found.local:
            raise AresError(
                f"teacher={self.name} cannot send any request ({self.redacted(found.reason)}); correct "
                "teacher.base_url or the key."
            ) from None
        return replace(found, reason=self.redacted(found.reason))

    def redacted(self, text: str) -> str:
        """The beginning of a message, without the key, which may stand there as Python writes strings."""
        for form in (self.key, repr(self.key)[1:-1]) if self.key else ():
            text = text.replace(form, "<key>")
        return text[:300]  # only now, or a part of the key could be left

    # Money

    def usd(self, input_tokens: int, output_tokens: int) -> float | None:
        """What so many tokens cost; None if the price is unknown."""
        return None if self.price is None else self.discount * self.price.usd(input_tokens, output_tokens)

    def answered(self, text: Any, tokens: tuple[int, int], stop: str) -> Reply:
        """A reply with its price; raises ValueError where it has no text that can be kept, or counts no tokens."""
        if not isinstance(text, str):
            raise ValueError(f"a text that is of type {type(text).__name__}")
        if not all(0 <= count < 1 << 40 for count in tokens):
            raise ValueError(f"{tokens[0]} and {tokens[1]} tokens")
        text.encode()  # half a character has no UTF-8: a UnicodeEncodeError is a ValueError
        return Reply(text, *tokens, self.usd(*tokens), stop=stop)

    @property
    def priced(self) -> bool:
        """Whether the prices name the model."""
        return self.price is not None

    def expected_tokens(self, request: Request) -> tuple[int, int]:
        """By four characters a token and 750 pixels; the reply as long as its form suggests."""
        payload = request.payload
        text = len(payload["text"]) // prompts.CHARACTERS_PER_TOKEN
        output = (payload["max_tokens"] - _SPARE) // _ROOM if self.max_tokens is None else self.max_tokens
        return text + image_tokens(payload), output

    def max_cost_usd(self, request: Request) -> float | None:
        """The price of as many tokens as the request has bytes, its image, and the longest reply."""
        return self.usd(*most_tokens(request.payload))


def key_in(variable: str) -> str | None:
    """The key in an environment variable, None without one; raises AresError where it fits into no header."""
    key = os.environ.get(variable, "").strip()  # read from a file it ends in a newline
    if not (key.isascii() and key.isprintable()):
        raise AresError(f"{variable} holds characters that no key has; set it again, without line breaks.")
    return key or None


def _has_image(problem: Problem) -> bool:
    return problem.image is not None and problem.image.exists()
