"""Any OpenAI-compatible endpoint as the Teacher: a local vLLM or Ollama, or a service."""

import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ares.teachers.messages import Reply
from ares.teachers.prompts.default import Prompt
from ares.teachers.services.chat import ChatTeacher
from ares.teachers.services.client import ServiceClient
from ares.teachers.services.prices import most_tokens
from ares.teachers.services.request_images import images_of
from ares.types import AresError, Problem

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_STOPS = {"content_filter": "refusal", "length": "max_tokens"}
_LIMITS = ("max_tokens", "max_completion_tokens")


class OpenAIClient(ServiceClient):
    """The connection to an endpoint; `limit` is its name for the maximum number of output tokens."""

    package = "openai"
    key_variable = "OPENAI_API_KEY"
    without_key = "name a local server with teacher.base_url=http://localhost:8000/v1"

    def __init__(self, *, limit: str = "max_tokens", **settings: Any) -> None:
        super().__init__(**settings)
        self.limit = limit
        self._warned = False  # that replies count no tokens

    @property
    def needs_key(self) -> bool:
        """Only OpenAI's own service needs one."""
        return self.base_url is None

    def open(self) -> "AsyncOpenAI":
        """A new client of the openai SDK."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(
            api_key=self.key or "none", base_url=self.base_url, max_retries=0, timeout=self.timeouts()
        )

    async def call(self, payload: Mapping[str, Any]) -> Reply:
        """Sends a payload once; raises the SDK's exceptions, ValueError for a malformed reply."""
        completions = self.connection.chat.completions
        response = await completions.with_raw_response.create(**self.arguments(payload))
        self.gate.read(response.headers)
        return self.reply(response.parse(), payload)

    def arguments(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `chat.completions.create`."""
        content: Any = payload["text"]
        if images := images_of(payload):
            content = [*map(self._image, images), {"type": "text", "text": content}]
        messages = [{"role": "user", "content": content}]
        if "replied" in payload:
            messages.append({"role": "assistant", "content": payload["replied"]})
            messages.append({"role": "user", "content": payload["objection"]})
        found = {"model": payload["model"], self.limit: payload["max_tokens"], "messages": messages}
        if payload["schema"]:
            schema = {"name": "answer", "strict": True, "schema": payload["schema"]}
            found["response_format"] = {"type": "json_schema", "json_schema": schema}
        if payload["options"]:
            found["extra_body"] = payload["options"]
        return found

    def _image(self, image: Mapping[str, Any]) -> dict[str, Any]:
        data = self.images[image["sha256"]].base64()
        return {"type": "image_url", "image_url": {"url": f"data:{image['media_type']};base64,{data}"}}

    def reply(self, completion: Any, payload: Mapping[str, Any]) -> Reply:
        """The text, tokens and price of a completion; raises ValueError if it is malformed."""
        try:
            choice = completion.choices[0]
            refused = getattr(choice.message, "refusal", None)
            text = choice.message.content or refused or ""
            stop = "refusal" if refused else _STOPS.get(choice.finish_reason, "")
        except (AttributeError, TypeError, IndexError) as error:
            raise ValueError(f"not a completion: {error}") from None
        return self.checked_reply(text, self._tokens(completion, payload), stop)

    def _tokens(self, completion: Any, payload: Mapping[str, Any]) -> tuple[int, int]:
        """Tokens as the endpoint counts them; without a count the upper bound, so that a cap holds."""
        usage = getattr(completion, "usage", None)
        sent, replied = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        if isinstance(sent, int) and isinstance(replied, int) and sent:
            return sent, replied
        if self.price and not self._warned:
            self._warned = True
            note = "the endpoint's replies count no tokens: each is charged at the most that it can cost"
            print(f"warning: teacher={self.teacher}, teacher.model={self.model}: {note}", file=sys.stderr)
        return most_tokens(payload)


class OpenAITeacher(ChatTeacher[OpenAIClient]):
    """A chat model at `base_url`, which ends in /v1; None is OPENAI_BASE_URL or OpenAI's own service.

    Local servers need no key. `limit` is max_tokens, or max_completion_tokens for OpenAI's reasoning models.
    """

    package, key_variable = OpenAIClient.package, OpenAIClient.key_variable

    def __init__(
        self, *, name: str = "openai", base_url: str | None = None, limit: str = "max_tokens", **settings: Any
    ) -> None:
        if limit not in _LIMITS:
            raise AresError(f"teacher.limit={limit}: choose from {', '.join(_LIMITS)}.")
        url = str(base_url or os.environ.get("OPENAI_BASE_URL", "")).rstrip("/")
        super().__init__(
            name=name, make_client=partial(OpenAIClient, limit=limit), base_url=url or None, **settings
        )

    def fingerprint(self) -> dict[str, Any]:
        """Its model, prompt, endpoint and everything else that enters requests."""
        return {**super().fingerprint(), **self._endpoint()}

    def _payload(self, problem: Problem, prompt: Prompt) -> dict[str, Any]:
        return {**super()._payload(problem, prompt), **self._endpoint()}

    def _endpoint(self) -> dict[str, str]:
        # Two servers may give the same name to different models.
        return {"endpoint": self.client.base_url} if self.client.base_url else {}
