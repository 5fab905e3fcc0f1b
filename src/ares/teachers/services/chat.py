"""Teachers that are chat models: prompts, images, and one objection to an unusable reply."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

from ares.teachers.grading import Grader
from ares.teachers.messages import Reply, Request
from ares.teachers.parsing import FeedbackError, parse_correction
from ares.teachers.prompts import default as prompts
from ares.teachers.prompts import paper
from ares.teachers.prompts.default import Prompt
from ares.teachers.services.client import ServiceClient
from ares.teachers.services.prices import image_tokens, most_tokens, price_of
from ares.teachers.services.request_images import image_entries, request_image
from ares.teachers.services.retry import RetryPolicy
from ares.types import AresError, Problem

if TYPE_CHECKING:
    from ares.teachers.ledger.ledger import Ledger

C = TypeVar("C", bound=ServiceClient)
_PROMPTS: dict[str, Any] = {module.NAME: module for module in (prompts, paper)}
_SPARE, _ROOM = 256, 3  # a reply may have this many tokens plus this many times its likely length


class ChatTeacher(Grader, Generic[C]):
    """A Teacher that is a chat model, reached through `client`.

    `prompt` is default or paper; `structured` asks for JSON by a schema if the prompt has one; `options` are
    added to each request (thinking, temperature ...), except for null ones; `max_tokens` None is derived from
    the question, `base_url` None is the SDK's own. `prices` maps a model to `{input, output}`, US dollars per
    million tokens.
    """

    shuffled = True
    costs_money = True

    def __init__(
        self,
        *,
        name: str,
        model: str | None,
        make_client: Callable[..., C],
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
        discount: float = 1.0,
        ledger: "Ledger | None" = None,
    ) -> None:
        if not model:
            raise AresError(f"teacher={name} needs a model: teacher.model=<name>.")
        if base_url is not None and not _is_url(str(base_url)):
            raise AresError(
                f"teacher={name}, teacher.base_url={base_url}: give an address such as http://localhost:8000/v1."
            )
        self.prompt = _prompt_module(prompt, group)
        super().__init__(name, self.prompt.VERSION, ledger, group=group, concurrency=concurrency)
        self.model, self.structured, self.max_tokens = str(model), structured, max_tokens
        self.options = {key: value for key, value in (options or {}).items() if value is not None}
        self.client = make_client(
            teacher=name,
            model=self.model,
            base_url=base_url,
            price=price_of(prices, self.model, discount),
            policy=RetryPolicy(timeout=timeout, deadline=deadline),
        )

    # Requests

    def score_payload(self, problem: Problem, rationales: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The prompt with the question's images, if it has any."""
        return self._payload(problem, self.prompt.score(problem, rationales, bool(_images(problem))))

    def correct_payload(self, problem: Problem, rationale: str, sentences: Sequence[str]) -> dict[str, Any]:
        """The prompt with the question's images, if it has any."""
        return self._payload(problem, self.prompt.correct(problem, rationale, bool(_images(problem))))

    def judge_payload(self, problem: Problem, first: str, second: str) -> dict[str, Any]:
        """The prompt with the question's images, if it has any."""
        return self._payload(problem, self.prompt.judge(problem, first, second, bool(_images(problem))))

    def grade_payload(self, problem: Problem, prompt: Prompt) -> dict[str, Any]:
        """The benchmark's prompt with the question's images, if it has any."""
        return self._payload(problem, prompt)

    def repair_payload(self, payload: Mapping[str, Any], reply: Reply, reason: str) -> dict[str, Any] | None:
        """The question with the unusable reply and an objection; with a higher limit if the reply was cut off."""
        if reply.stop == "max_tokens":
            return {**payload, "max_tokens": 2 * payload["max_tokens"]}
        return {**payload, "replied": reply.text, "objection": self.prompt.objection(reason)}

    def read_scores(
        self, text: str, rationales: Sequence[Sequence[str]]
    ) -> list[list[float] | FeedbackError]:
        """The scores, in the form that the prompt asks for."""
        return self.prompt.read_scores(text, rationales)

    def read_correction(self, text: str) -> str:
        """The repaired rationale; raises FeedbackError, also for one that repeats the prompt."""
        return parse_correction(text, self.prompt.ECHO)

    def fingerprint(self) -> dict[str, Any]:
        """Its model, prompt and everything else that enters requests."""
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
        images = [request_image(path) for path in _images(problem)]
        self.client.images |= {image.sha256: image for image in images}
        return {
            "model": self.model,
            "max_tokens": self.max_tokens or _SPARE + _ROOM * prompt.answer_tokens,
            "text": prompt.text,
            "schema": prompt.schema if self.structured else None,
            "options": self.options,
            **image_entries(images),
        }

    # Sending

    def check(self) -> list[str]:
        """Raises AresError without the SDK, or without a key if the service needs one."""
        self.client.check()
        return []

    async def send(self, request: Request) -> Reply:
        """Sends a request until it is answered; money for attempts that may have been paid for is reserved."""

        async def reserve() -> None:
            if self.ledger:
                await self.ledger.reserve(self.max_cost_usd(request) or 0.0)

        return await self.client.retried(lambda: self.client.call(request.payload), reserve)

    async def close(self) -> None:
        """Closes the connection."""
        await super().close()
        await self.client.close()

    # Money

    def usd(self, input_tokens: int, output_tokens: int) -> float | None:
        """The price of this many tokens (US dollars); None if it is unknown."""
        return self.client.usd(input_tokens, output_tokens)

    def expected_tokens(self, request: Request) -> tuple[int, int]:
        """Likely input tokens (four characters, 750 pixels per token) and output tokens (by the prompt's form)."""
        payload = request.payload
        text = len(payload["text"]) // prompts.CHARACTERS_PER_TOKEN
        output = (payload["max_tokens"] - _SPARE) // _ROOM if self.max_tokens is None else self.max_tokens
        return text + image_tokens(payload), output

    async def count_tokens(self, request: Request) -> int | None:
        """The input tokens by the service's own count, None without one; raises AresError without a key."""
        return await self.client.count_tokens(request.payload)

    def max_cost_usd(self, request: Request) -> float | None:
        """The price of the most tokens that the request and its reply can have."""
        return self.usd(*most_tokens(request.payload))


def _prompt_module(prompt: str, group: str | int) -> Any:
    if prompt not in _PROMPTS:
        raise AresError(f"teacher.prompt={prompt}: choose from {', '.join(_PROMPTS)}.")
    if str(group) == "k" and not _PROMPTS[prompt].GROUPED:
        raise AresError(
            f"teacher.prompt={prompt} scores one rationale per request; add teacher.group=1, or use "
            "teacher.prompt=default."
        )
    return _PROMPTS[prompt]


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:  # brackets that do not match, a port that is no number
        return False


def _images(problem: Problem) -> list[Path]:
    return [path for path in problem.images if path.exists()]
