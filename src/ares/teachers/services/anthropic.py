"""Claude as the Teacher, through the Messages API, one request at a time or in Message Batches."""

import typing
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ares.teachers.ledger.intents import is_under_way
from ares.teachers.messages import Reply, Request
from ares.teachers.services.batches import Batches
from ares.teachers.services.chat import ChatTeacher, key_in
from ares.teachers.services.settings import check_switches
from ares.types import AresError

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

KEY = "ANTHROPIC_API_KEY"
BATCH_PRICE = 0.5  # Message Batches cost half
_STOPS = {
    "refusal": "refusal",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
}


class AnthropicTeacher(ChatTeacher):
    """Claude; the key comes from ANTHROPIC_API_KEY only; `batch` sends all in Message Batches, which need a
    ledger."""

    def __init__(
        self,
        *,
        name: str = "anthropic",
        batch: bool = False,
        concurrency: int = 16,
        **settings: Any,
    ) -> None:
        check_switches(name, batch=batch)
        # A batch holds as many requests as there are.
        super().__init__(name=name, concurrency=1_000_000 if batch else concurrency, **settings)
        self._client: AsyncAnthropic | None = None
        self.batches = Batches(self) if batch else None
        if batch:
            self.discount = BATCH_PRICE
            self.waits = True

    def check(self) -> list[str]:
        """Raises AresError without a key; warns of a model that the SDK does not know."""
        if not key_in(KEY):
            raise AresError(
                f"teacher={self.name} needs a key: set the environment variable {KEY}, or use teacher=overlap, which "
                "is offline and free."
            )
        from anthropic.types import Model

        known = {name for part in typing.get_args(Model) for name in typing.get_args(part)}
        if self.model in known:
            return []
        return [f"teacher.model={self.model} is not among the models that the installed SDK knows."]

    def sdk(self) -> ModuleType:
        """anthropic."""
        import anthropic

        return anthropic

    def connect(self) -> "AsyncAnthropic":
        """The connection, opened at its first use."""
        if self._client is None:
            from anthropic import AsyncAnthropic

            self.check()
            self.key = key_in(KEY)
            self._client = AsyncAnthropic(
                api_key=self.key, base_url=self.base_url, max_retries=0, timeout=self.timeouts()
            )
        return self._client

    async def send(self, request: Request) -> Reply:
        """Sends a request until it is answered, alone or in a batch; raises AresError for one that would be paid
        for twice."""
        if self.batches:
            return await self.batches.send(request)
        waits = self.ledger is not None and await self.ledger.run(lambda db: is_under_way(db, request.hash))
        if waits:
            raise AresError(
                "These requests are in a Message Batch of an earlier run, which is paid for; give the same command "
                "with teacher.batch=true to wait for its results."
            )
        return await super().send(request)

    async def call(self, payload: Mapping[str, Any]) -> Reply:
        """Sends a request once; raises what the SDK raises, ValueError for a reply of another form."""
        response = await self.connect().messages.with_raw_response.create(**self.arguments(payload))
        self.brake.read(response.headers)
        return self.reply(await response.parse())

    async def count_tokens(self, request: Request) -> int | None:
        """How many input tokens the service counts in a request; raises AresError without a key."""
        arguments = self.arguments(request.payload)
        del arguments["max_tokens"]
        arguments.pop("extra_body", None)
        try:
            counted = await self.connect().messages.count_tokens(**arguments)
        except self.sdk().APIError:
            return None
        return counted.input_tokens

    def arguments(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """What `messages.create` takes, and a batch's `params`."""
        content: Any = payload["text"]
        if image := payload["image"]:
            data = self.pictures[image["sha256"]].base64()
            source = {"type": "base64", "media_type": image["media_type"], "data": data}
            content = [{"type": "image", "source": source}, {"type": "text", "text": content}]
        messages = [{"role": "user", "content": content}]
        if "replied" in payload:
            replied = payload["replied"].strip() or "(nothing)"  # an empty message is refused
            messages.append({"role": "assistant", "content": replied})
            messages.append({"role": "user", "content": payload["objection"]})
        found = {"model": payload["model"], "max_tokens": payload["max_tokens"], "messages": messages}
        if payload["schema"]:
            found["output_config"] = {"format": {"type": "json_schema", "schema": payload["schema"]}}
        if payload["options"]:
            # Not keyword arguments: the SDK has dropped some that older models still take (temperature).
            found["extra_body"] = payload["options"]
        return found

    def reply(self, message: Any) -> Reply:
        """The text, tokens and price of a message; raises ValueError where it is none."""
        try:
            text = "".join(block.text for block in message.content if block.type == "text")
            usage = message.usage
            cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
            tokens = int(usage.input_tokens) + cached, int(usage.output_tokens)
            stop = _STOPS.get(message.stop_reason, "")
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a message: {error}") from None
        return self.answered(text, tokens, stop)

    async def close(self) -> None:
        """Closes the connection."""
        await super().close()
        if self._client is not None:
            await self._client.close()
