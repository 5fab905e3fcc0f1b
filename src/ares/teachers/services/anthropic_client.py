"""Claude's Messages API: the arguments of a request and the reading of its reply."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ares.teachers.messages import Reply
from ares.teachers.services.client import ServiceClient
from ares.teachers.services.request_images import images_of

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

_STOPS = {"refusal": "refusal", "max_tokens": "max_tokens", "model_context_window_exceeded": "max_tokens"}


class AnthropicClient(ServiceClient):
    """The connection to Claude."""

    package = "anthropic"
    key_variable = "ANTHROPIC_API_KEY"
    without_key = "use teacher=overlap, which is offline and free"

    def open(self) -> "AsyncAnthropic":
        """A new client of the anthropic SDK."""
        from anthropic import AsyncAnthropic

        return AsyncAnthropic(
            api_key=self.key, base_url=self.base_url, max_retries=0, timeout=self.timeouts()
        )

    async def call(self, payload: Mapping[str, Any]) -> Reply:
        """Sends a payload once; raises the SDK's exceptions, ValueError for a malformed reply."""
        response = await self.connection.messages.with_raw_response.create(**self.arguments(payload))
        self.gate.read(response.headers)
        return self.reply(await response.parse())

    async def count_tokens(self, payload: Mapping[str, Any]) -> int | None:
        """How many input tokens the service counts, free of charge; None if it fails."""
        arguments = self.arguments(payload)
        del arguments["max_tokens"]
        arguments.pop("extra_body", None)
        try:
            counted = await self.connection.messages.count_tokens(**arguments)
        except self.sdk.APIError:
            return None
        return int(counted.input_tokens)

    def arguments(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `messages.create`."""
        content: Any = payload["text"]
        if images := images_of(payload):
            content = [*map(self._image, images), {"type": "text", "text": content}]
        messages = [{"role": "user", "content": content}]
        if "replied" in payload:
            replied = payload["replied"].strip() or "(nothing)"  # an empty message is refused
            messages.append({"role": "assistant", "content": replied})
            messages.append({"role": "user", "content": payload["objection"]})
        found = {"model": payload["model"], "max_tokens": payload["max_tokens"], "messages": messages}
        if payload["schema"]:
            found["output_config"] = {"format": {"type": "json_schema", "schema": payload["schema"]}}
        if payload["options"]:
            # Not keyword arguments: the SDK has dropped some that older models still accept (temperature).
            found["extra_body"] = payload["options"]
        return found

    def _image(self, image: Mapping[str, Any]) -> dict[str, Any]:
        data = self.images[image["sha256"]].base64()
        source = {"type": "base64", "media_type": image["media_type"], "data": data}
        return {"type": "image", "source": source}

    def batch_params(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The `params` of a request in a Message Batch."""
        arguments = self.arguments(payload)
        options = arguments.pop("extra_body", {})  # an argument of the SDK that the API does not know
        return {**arguments, **options}

    def reply(self, message: Any) -> Reply:
        """The text, tokens and price of a message; raises ValueError if it is malformed."""
        try:
            text = "".join(block.text for block in message.content if block.type == "text")
            usage = message.usage
            cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
            tokens = int(usage.input_tokens) + cached, int(usage.output_tokens)
            stop = _STOPS.get(message.stop_reason, "")
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a message: {error}") from None
        return self.checked_reply(text, tokens, stop)
