"""The connection to a chat service: its SDK, key, retries, rate limit and prices."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from ares.teachers.messages import Reply
from ares.teachers.needs import check_needs, key_in
from ares.teachers.services.limits import RateLimitGate
from ares.teachers.services.prices import Price
from ares.teachers.services.request_images import RequestImage
from ares.teachers.services.retry import Failure, RetryPolicy, call_with_retries, failure_of
from ares.types import AresError

T = TypeVar("T")
_CONNECT = 10.0  # seconds within which an available service accepts a connection


class ServiceClient(ABC):
    """Sends payloads of a `ChatTeacher` to `model` at a service; `base_url` None is the SDK's default.

    `images` holds the images of the payloads by sha256. The key comes from the environment only and appears in
    no message.
    """

    package: ClassVar[str]  # the SDK
    key_variable: ClassVar[str]  # the environment variable that holds the key
    without_key: ClassVar[str]  # what works without one, for the error message

    def __init__(
        self, *, teacher: str, model: str, base_url: str | None, price: Price | None, policy: RetryPolicy
    ) -> None:
        self.teacher, self.model, self.base_url = teacher, model, base_url
        self.price, self.policy = price, policy
        self.gate = RateLimitGate()
        self.images: dict[str, RequestImage] = {}
        self.key: str | None = None

    @abstractmethod
    def arguments(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The SDK's arguments for a payload."""

    @abstractmethod
    async def call(self, payload: Mapping[str, Any]) -> Reply:
        """Sends a payload once; raises the SDK's exceptions, ValueError for a malformed reply."""

    @abstractmethod
    def open(self) -> Any:
        """A new SDK client with `key`, `base_url` and `timeouts()`, without the SDK's own retries."""

    @property
    def needs_key(self) -> bool:
        """Whether the service refuses requests without a key."""
        return True

    def check(self) -> None:
        """Raises AresError without the SDK, or without a key where the service needs one."""
        needed = self.key_variable if self.needs_key else ""
        check_needs(self.teacher, self.package, needed, self.without_key)
        key_in(self.key_variable)  # an optional key must be valid, too

    @cached_property
    def sdk(self) -> Any:
        """The SDK's module."""
        return import_module(self.package)

    @cached_property
    def connection(self) -> Any:
        """The SDK client, opened at its first use; importing the SDK takes seconds."""
        self.check()
        self.key = key_in(self.key_variable)
        return self.open()

    def timeouts(self) -> Any:
        """The SDK's timeout of one attempt; a shorter one to connect distinguishes an absent service from a slow one."""
        timeout = self.policy.timeout
        return self.sdk.Timeout(timeout, connect=min(_CONNECT, timeout / 2))

    async def retried(
        self,
        call: Callable[[], Awaitable[T]],
        before_repeat: Callable[[], Awaitable[None]] | None,
        policy: RetryPolicy | None = None,
    ) -> T:
        """The result of a call of the SDK, tried until it succeeds (`retry.call_with_retries`)."""
        _ = self.connection  # not part of the first attempt's time
        return await call_with_retries(call, self.failure, before_repeat, policy or self.policy, self.gate)

    async def count_tokens(self, payload: Mapping[str, Any]) -> int | None:
        """How many input tokens the service counts, free of charge; None if it does not say."""
        return None

    async def close(self) -> None:
        """Closes the connection."""
        if "connection" in self.__dict__:
            await self.connection.close()

    def failure(self, error: Exception) -> Failure:
        """What a failed attempt means; raises AresError if every attempt would fail in the same way."""
        if isinstance(error, AresError):
            raise error
        if isinstance(error, self.sdk.APIStatusError) and error.status_code in (401, 402, 403, 404):
            hint = "; correct teacher.model or teacher.base_url" if error.status_code == 404 else ""
            raise AresError(
                f"teacher={self.teacher} (model {self.model}): the service refuses all requests with "
                f"{error.status_code}: {self.redacted(str(error.message))}{hint}"
            ) from None
        found = failure_of(error, self.sdk)
        if found.local:
            raise AresError(
                f"teacher={self.teacher} cannot send any request ({self.redacted(found.reason)}); correct "
                "teacher.base_url or the key."
            ) from None
        return replace(found, reason=self.redacted(found.reason))

    def redacted(self, text: str) -> str:
        """The beginning of a message, without the key, also in its escaped form."""
        for form in (self.key, repr(self.key)[1:-1]) if self.key else ():
            text = text.replace(form, "<key>")
        return text[:300]  # cut last, or part of the key could remain

    def usd(self, input_tokens: int, output_tokens: int) -> float | None:
        """The price of this many tokens; None if it is unknown."""
        return None if self.price is None else self.price.usd(input_tokens, output_tokens)

    def checked_reply(self, text: Any, tokens: tuple[int, int], stop: str) -> Reply:
        """A reply with its price; raises ValueError if the text cannot be stored or a token count is absurd."""
        if not isinstance(text, str):
            raise ValueError(f"a text of type {type(text).__name__}")
        if not all(0 <= count < 1 << 40 for count in tokens):
            raise ValueError(f"{tokens[0]} and {tokens[1]} tokens")
        text.encode()  # a lone surrogate has no UTF-8: a UnicodeEncodeError is a ValueError
        return Reply(text, *tokens, self.usd(*tokens), stop=stop)
