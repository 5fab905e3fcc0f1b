"""Any OpenAI-compatible endpoint as the Teacher: a local vLLM or Ollama, or a service."""

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ares.teachers.messages import Reply
from ares.teachers.prompts.default import Prompt
from ares.teachers.services.chat import ChatTeacher, key_in
from ares.teachers.services.prices import most_tokens
from ares.types import AresError, Problem

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY = "OPENAI_API_KEY"
_STOPS = {"content_filter": "refusal", "length": "max_tokens"}
_LIMITS = ("max_tokens", "max_completion_tokens")


class OpenAITeacher(ChatTeacher):
    """A chat model at `base_url`, which ends in /v1; None is OpenAI's own, or OPENAI_BASE_URL, as the SDK has
    it. The key comes from OPENAI_API_KEY only; local servers need none. `limit` is what the endpoint calls the
    longest reply: max_tokens, or max_completion_tokens (OpenAI's reasoning models)."""

    def __init__(
        self,
        *,
        name: str = "openai",
        base_url: str | None = None,
        limit: str = "max_tokens",
        **settings: Any,
    ) -> None:
        if limit not in _LIMITS:
            raise AresError(f"teacher.limit={limit}: choose from {', '.join(_LIMITS)}.")
        address = str(base_url or os.environ.get("OPENAI_BASE_URL", "")).rstrip("/")
        super().__init__(name=name, base_url=address or None, **settings)
        self.limit = limit
        self._client: AsyncOpenAI | None = None
        self._told = False  # that replies count no tokens

    def check(self) -> list[str]:
        """Raises AresError without the package, or without a key where the endpoint needs one."""
        if find_spec("openai") is None:
            raise AresError(
                f"teacher={self.name} needs the openai package; install it with `uv pip install -e '.[openai]'`."
            )
        if not key_in(KEY) and self.base_url is None:
            raise AresError(
                f"teacher={self.name} needs a key: set the environment variable {KEY}, or name a local server with "
                "teacher.base_url=http://localhost:8000/v1."
            )
        return []

    def fingerprint(self) -> dict[str, Any]:
        """Its model, prompt, endpoint and all else that enters requests."""
        return {**super().fingerprint(), **self._endpoint()}

    def sdk(self) -> ModuleType:
        """openai."""
        import openai

        return openai

    def connect(self) -> "AsyncOpenAI":
        """The connection, opened at its first use."""
        if self._client is None:
            self.check()
            from openai import AsyncOpenAI

            self.key = key_in(KEY)
            self._client = AsyncOpenAI(
                api_key=self.key or "none",
                base_url=self.base_url,
                max_retries=0,
                timeout=self.timeouts(),
            )
        return self._client

    async def call(self, payload: Mapping[str, Any]) -> Reply:
        """Sends a request once; raises what the SDK raises, ValueError for a reply of another form."""
        completions = self.connect().chat.completions
        response = await completions.with_raw_response.create(**self.arguments(payload))
        self.brake.read(response.headers)
        return self.reply(response.parse(), payload)

    def arguments(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """What `chat.completions.create` takes."""
        content: Any = payload["text"]
        if image := payload["image"]:
            data = self.pictures[image["sha256"]].base64()
            url = {"url": f"data:{image['media_type']};base64,{data}"}
            content = [{"type": "image_url", "image_url": url}, {"type": "text", "text": content}]
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

    def _payload(self, problem: Problem, prompt: Prompt) -> dict[str, Any]:
        return {**super()._payload(problem, prompt), **self._endpoint()}

    def _endpoint(self) -> dict[str, str]:
        # Two servers may give one name to different models.
        return {"endpoint": self.base_url} if self.base_url else {}

    def reply(self, completion: Any, payload: Mapping[str, Any]) -> Reply:
        """The text, tokens and price of a completion; raises ValueError where it is none."""
        try:
            choice = completion.choices[0]
            refused = getattr(choice.message, "refusal", None)
            text = choice.message.content or refused or ""
            stop = "refusal" if refused else _STOPS.get(choice.finish_reason, "")
        except (AttributeError, TypeError, IndexError) as error:
            raise ValueError(f"not a completion: {error}") from None
        return self.answered(text, self._tokens(completion, payload), stop)

    def _tokens(self, completion: Any, payload: Mapping[str, Any]) -> tuple[int, int]:
        """As the endpoint counts them; where it does not, the most that they can be, or a cap would not hold."""
        usage = getattr(completion, "usage", None)
        asked, replied = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        if isinstance(asked, int) and isinstance(replied, int) and asked:
            return asked, replied
        if self.priced and not self._told:
            self._told = True
            note = "the endpoint's replies count no tokens: each is taken to cost the most that it can"
            print(f"warning: teacher={self.name}, teacher.model={self.model}: {note}", file=sys.stderr)
        return most_tokens(payload)

    async def close(self) -> None:
        """Closes the connection."""
        await super().close()
        if self._client is not None:
            await self._client.close()
