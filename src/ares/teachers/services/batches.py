"""Requests in Message Batches: half the price, within 24 hours, and submitted only once even across crashes.

The intent to submit a batch is committed before the batch is created, its id afterwards. A process that finds an
intent without an id searches the service's recent batches for it, by size and by the ids in the results, before
it submits anything.
"""

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from ares.teachers.ledger.batch_intents import (
    find_intent,
    open_requests,
    record_intent,
    release,
    set_batch_id,
    unfinished,
)
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.messages import Reply, Request, Unanswered
from ares.teachers.services.anthropic_client import AnthropicClient
from ares.teachers.services.batch_parts import Waiting, split, still_open
from ares.types import AresError

T = TypeVar("T")

MAX_REQUESTS, MAX_BYTES = 100_000, 200_000_000  # per batch, by the API's documentation
_ROUNDS = 3  # batches that a request enters if it fails, expires or is missing
_CLOCK_SKEW = 600  # seconds by which the service's clock may differ from ours
_UPLOAD = 600.0  # seconds that a batch's creation may take


class Gone(AresError):
    """The service does not have the batch or its results any more."""


class Batches:
    """Collects requests until none has arrived for `quiet` seconds; polls for results every `poll` seconds.

    `max_cost` is the most that a request can cost (US dollars).
    """

    quiet, poll = 2.0, 30.0

    def __init__(
        self, client: AnthropicClient, max_cost: Callable[[Request], float | None], ledger: Ledger
    ) -> None:
        self.client, self.max_cost, self.ledger = client, max_cost, ledger
        self._own: set[str] = set()  # ids of the batches that this object has submitted
        self._waiting: Waiting = {}
        self._latest = 0.0
        self._worker: asyncio.Task[None] | None = None

    async def send(self, request: Request) -> Reply:
        """The reply to a request, from a batch with all other waiting requests; raises Unanswered."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request.hash] = (request, future)
        self._latest = time.monotonic()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            while time.monotonic() - self._latest < self.quiet:
                await asyncio.sleep(self.quiet / 10)
            asked, self._waiting = self._waiting, {}
            try:
                await self._settle(asked)
            except asyncio.CancelledError:
                for _, future in still_open(asked).values():
                    future.cancel()
                raise
            except Exception as error:
                for _, future in still_open(asked).values():
                    future.set_exception(error)

    async def _settle(self, asked: Waiting) -> None:
        """Sets the reply or failure of every request, from earlier processes' batches and our own."""
        for key, batch_id in await self.ledger.run(partial(unfinished, hashes=list(asked))):
            if batch_id := batch_id or await self._find(key):
                await self._collect(batch_id, asked)
        for _ in range(_ROUNDS):
            submitted = [
                await self._submit(part)
                for part in split(still_open(asked), self.client.batch_params, MAX_REQUESTS, MAX_BYTES)
            ]
            for batch_id in submitted:
                await self._collect(batch_id, asked)
        for _, future in still_open(asked).values():
            future.set_exception(Unanswered(f"no result in {_ROUNDS} batches"))

    async def _submit(self, part: Waiting) -> str:
        key = uuid.uuid4().hex
        await self.ledger.run(partial(record_intent, key=key, hashes=list(part)))
        requests = [
            {"custom_id": request_hash, "params": self.client.batch_params(request.payload)}
            for request_hash, (request, _) in part.items()
        ]
        failed = False

        async def create() -> str | None:
            nonlocal failed
            # A creation that failed may have succeeded after all; None leaves that to `_find`, which may wait
            # for hours.
            if failed and (await self._candidates(key))[1]:
                failed = False
                return None
            failed = True
            batch = await self.client.connection.messages.batches.create(requests=requests, timeout=_UPLOAD)
            return batch.id

        batch_id: str | None = None
        while batch_id is None:
            batch_id = await self._retried(create, timeout=_UPLOAD) or await self._find(key)
        await self.ledger.run(partial(set_batch_id, key=key, batch_id=batch_id))
        self._own.add(batch_id)
        return batch_id

    async def _find(self, key: str) -> str | None:
        """The id of a batch that was to be created; None if it was not."""
        hashes, candidates = await self._candidates(key)
        for batch_id in candidates:
            try:
                results = await self._results(batch_id)
            except Gone:
                continue
            if any(result.custom_id in hashes for result in results):
                await self.ledger.run(partial(set_batch_id, key=key, batch_id=batch_id))
                return batch_id
        return None

    async def _candidates(self, key: str) -> tuple[set[str], list[str]]:
        """The requests of a batch that was to be created, and the ids of the batches that may be it."""
        created, size, hashes, known = await self.ledger.run(partial(find_intent, key=key))
        recent = await self._retried(partial(self._recent, created - _CLOCK_SKEW))
        alike = (batch.id for batch in recent if _size(batch.request_counts) == size)
        return hashes, [batch_id for batch_id in alike if batch_id not in known]

    async def _recent(self, since: float) -> list[Any]:
        found = []
        async for batch in self.client.connection.messages.batches.list(limit=100):
            if _seconds(batch.created_at) < since:
                break
            found.append(batch)
        return found

    async def _collect(self, batch_id: str, asked: Waiting) -> None:
        """Sets the replies that a batch has, and releases the requests that it has no reply to."""
        holds = await self.ledger.run(partial(open_requests, batch_id=batch_id))
        try:
            results = await self._results(batch_id)
        except Gone as gone:
            await self._lose(batch_id, holds, str(gone))
            results = []
        for result in results:
            request, future = asked.get(result.custom_id, (None, None))
            if request is None or future is None or future.done():
                continue  # another process's, or a duplicate
            if result.result.type == "succeeded":
                try:
                    future.set_result(self.client.reply(result.result.message))
                except ValueError:
                    continue  # asked again in the next batch
            elif (
                result.result.type == "errored" and result.result.error.error.type == "invalid_request_error"
            ):
                reason = self.client.redacted(str(result.result.error.error.message))
                future.set_exception(Unanswered(reason))
        if canceled := [item.custom_id for item in results if item.result.type == "canceled"]:
            await self._lose(batch_id, canceled, "was canceled")
        replied = {key for key, (_, future) in asked.items() if future.done() and not _has_failed(future)}
        await self.ledger.run(
            partial(release, batch_id=batch_id, hashes=[key for key in asked if key not in replied])
        )
        if batch_id in self._own:
            # Requests without a result may have been paid for; earlier processes have left theirs reserved.
            seen = {result.custom_id for result in results}
            missing = [asked[item][0] for item in holds if item in asked and item not in seen]
            if missing:
                await self.ledger.reserve(sum(self.max_cost(request) or 0.0 for request in missing))

    async def _lose(self, batch_id: str, hashes: list[str], reason: str) -> None:
        await self.ledger.run(partial(release, batch_id=batch_id, hashes=hashes, lost=True))
        print(
            f"warning: Message Batch {batch_id} {reason}: {len(hashes)} of its requests are lost and asked again",
            file=sys.stderr,
        )

    async def _results(self, batch_id: str) -> list[Any]:
        """The results of a batch, once it has ended; raises Gone."""
        batches, absent = self.client.connection.messages.batches, self.client.sdk.NotFoundError

        async def look() -> Any:
            try:
                return await batches.retrieve(batch_id)
            except absent:
                raise Gone("does not exist any more") from None

        async def read() -> list[Any]:
            try:
                return [result async for result in await batches.results(batch_id)]
            except absent:
                raise Gone("has lost its results") from None

        while (batch := await self._retried(look)).processing_status != "ended":
            await asyncio.sleep(self.poll)
        if batch.results_url is None:
            raise Gone("is archived, without its results")
        return await self._retried(read, timeout=_UPLOAD)

    async def _retried(self, call: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        policy = self.client.policy
        if timeout:
            policy = replace(policy, timeout=timeout, deadline=max(policy.deadline, 2 * timeout))

        try:
            return await self.client.retried(call, None, policy)
        except Unanswered as error:
            # Not an error of the requests, which would be quarantined.
            raise AresError(
                f"Message Batches fail ({error.reason}); batches that are paid for are in the ledger: run the same "
                "command again."
            ) from None


def _has_failed(future: asyncio.Future[Reply]) -> bool:
    return future.cancelled() or future.exception() is not None


def _size(counts: Any) -> int:
    return sum((counts.processing, counts.succeeded, counts.errored, counts.canceled, counts.expired))


def _seconds(moment: datetime | str) -> float:
    return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).timestamp()
