"""Claude as the Teacher, one request at a time or in Message Batches."""

import typing
from functools import cached_property
from typing import Any

from ares.teachers.ledger.batch_intents import is_under_way
from ares.teachers.messages import Reply, Request
from ares.teachers.services.anthropic_client import AnthropicClient
from ares.teachers.services.batches import Batches
from ares.teachers.services.chat import ChatTeacher
from ares.types import AresError

BATCH_PRICE = 0.5  # Message Batches cost half


class AnthropicTeacher(ChatTeacher[AnthropicClient]):
    """Claude; `batch` sends all requests in Message Batches, which need a ledger."""

    package, key_variable = AnthropicClient.package, AnthropicClient.key_variable

    def __init__(
        self, *, name: str = "anthropic", batch: bool = False, concurrency: int = 16, **settings: Any
    ) -> None:
        # A batch holds all requests of a step.
        super().__init__(
            name=name,
            make_client=AnthropicClient,
            concurrency=1_000_000 if batch else concurrency,
            discount=BATCH_PRICE if batch else 1.0,
            **settings,
        )
        self.answers_in_batches = batch

    @cached_property
    def batches(self) -> Batches:
        """Collects and submits the requests."""
        assert self.ledger is not None, "batches need a ledger"
        return Batches(self.client, self.max_cost_usd, self.ledger)

    def check(self) -> list[str]:
        """Raises AresError without a key; warns of a model that the SDK does not know."""
        super().check()
        from anthropic.types import Model

        known = {name for part in typing.get_args(Model) for name in typing.get_args(part)}
        if self.model in known:
            return []
        return [f"teacher.model={self.model} is not among the models that the installed SDK knows."]

    async def send(self, request: Request) -> Reply:
        """Sends a request until it is answered, alone or in a batch; raises AresError instead of paying twice."""
        if self.answers_in_batches:
            return await self.batches.send(request)
        in_batch = self.ledger is not None and await self.ledger.run(
            lambda db: is_under_way(db, request.hash)
        )
        if in_batch:
            raise AresError(
                "These requests are in a Message Batch of an earlier run, which is paid for; run the same command "
                "with teacher.batch=true to wait for its results."
            )
        return await super().send(request)
