"""Requests in Message Batches: half the price, within 24 hours, and submitted once even across crashes.

The intent to submit a batch is committed before it is created, its name afterwards. Whoever finds an intent
without a name looks through the service's recent batches for it, by its size and the ids in its results,
before it submits anything.
"""

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ares.teachers.ledger.intents import free, held, intend, intent, name_batch, unfinished
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.messages import Reply, Request, Unanswered
from ares.teachers.services.cuts import Asked, cut, still_open
from ares.teachers.services.retry import call_with_retries
from ares.types import AresError

if TYPE_CHECKING:
    from ares.teachers.services.anthropic import AnthropicTeacher

T = TypeVar("T")

MOST_REQUESTS, MOST_BYTES = 100_000, 200_000_000  # of one batch, by the API's documentation
_ROUNDS = 3  # a request that fails, expires or is missing goes into so many batches
_CLOCKS = 600  # seconds by which the service's clock may differ from ours
_UPLOAD = 600.0  # seconds that a batch's creation may take


class Gone(AresError):
    """A batch whose results the service does not have, or has no more."""


class Batches:
    """Collects what is to be sent until for `quiet` seconds nothing comes; looks for results every `poll`
    seconds."""

    def __init__(self, teacher: "AnthropicTeacher", *, quiet: float = 2.0, poll: float = 30.0) -> None:
        self.teacher, self.quiet, self.poll = teacher, quiet, poll
        self._own: set[str] = set()  # the names of the batches that this object has submitted
        self._waiting: Asked = {}
        self._latest = 0.0
        self._worker: asyncio.Task[None] | None = None

    async def send(self, request: Request) -> Reply:
        """The reply to a request, from a batch with all others that are waiting; raises Unanswered."""
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

    async def _settle(self, asked: Asked) -> None:
        """Every request's reply or failure, from batches of earlier processes and of our own."""
        for key, name in await self._ledger.run(partial(unfinished, hashes=list(asked))):
            if name := name or await self._find(key):
                await self._collect(name, asked)
        for _ in range(_ROUNDS):
            submitted = [
                await self._submit(part)
                for part in cut(still_open(asked), self._arguments, MOST_REQUESTS, MOST_BYTES)
            ]
            for name in submitted:
                await self._collect(name, asked)
        for _, future in still_open(asked).values():
            future.set_exception(Unanswered(f"no result in {_ROUNDS} batches"))

    @property
    def _ledger(self) -> Ledger:
        assert self.teacher.ledger is not None, "batches need a ledger"
        return self.teacher.ledger

    async def _submit(self, part: Asked) -> str:
        key = uuid.uuid4().hex
        await self._ledger.run(partial(intend, key=key, hashes=list(part)))
        requests: Any = [
            {"custom_id": name, "params": self._arguments(request)} for name, (request, _) in part.items()
        ]
        failed = False

        async def create() -> str | None:
            nonlocal failed
            # A creation that failed may have succeeded all the same; None leaves it to `_find`, which may wait
            # for hours, to see.
            if failed and (await self._candidates(key))[1]:
                failed = False
                return None
            failed = True
            batch = await self.teacher.connect().messages.batches.create(requests=requests, timeout=_UPLOAD)
            return batch.id

        name: str | None = None
        while name is None:
            name = await self._persist(create, timeout=_UPLOAD) or await self._find(key)
        await self._ledger.run(partial(name_batch, key=key, name=name))
        self._own.add(name)
        return name

    def _arguments(self, request: Request) -> dict[str, Any]:
        arguments = self.teacher.arguments(request.payload)
        options = arguments.pop("extra_body", {})  # the SDK's word, which the service does not take
        return {**arguments, **options}

    async def _find(self, key: str) -> str | None:
        """The service's name for a batch that was meant to be created; None if it was not."""
        hashes, candidates = await self._candidates(key)
        for name in candidates:
            try:
                results = await self._results(name)
            except Gone:
                continue
            if any(result.custom_id in hashes for result in results):
                await self._ledger.run(partial(name_batch, key=key, name=name))
                return name
        return None

    async def _candidates(self, key: str) -> tuple[set[str], list[str]]:
        """The requests of a batch that was meant to be created, and the names of those that may be it."""
        created, size, hashes, known = await self._ledger.run(partial(intent, key=key))
        recent = await self._persist(partial(self._recent, created - _CLOCKS))
        alike = (batch.id for batch in recent if _size(batch.request_counts) == size)
        return hashes, [name for name in alike if name not in known]

    async def _recent(self, since: float) -> list[Any]:
        found = []
        async for batch in self.teacher.connect().messages.batches.list(limit=100):
            if _seconds(batch.created_at) < since:
                break
            found.append(batch)
        return found

    async def _collect(self, name: str, asked: Asked) -> None:
        """Settles what a batch has replies to, and frees what it has none to."""
        holds = await self._ledger.run(partial(held, name=name))
        try:
            results = await self._results(name)
        except Gone as gone:
            await self._lose(name, holds, str(gone))
            results = []
        for result in results:
            request, future = asked.get(result.custom_id, (None, None))
            if request is None or future is None or future.done():
                continue  # of another process, or a second time
            if result.result.type == "succeeded":
                try:
                    future.set_result(self.teacher.reply(result.result.message))
                except ValueError:
                    continue  # asked again in the next batch
            elif result.result.type == "errored" and _is_final(result.result.error):
                reason = self.teacher.redacted(str(result.result.error.error.message))
                future.set_exception(Unanswered(reason))
        if canceled := [item.custom_id for item in results if item.result.type == "canceled"]:
            await self._lose(name, canceled, "was canceled")
        replied = {key for key, (_, future) in asked.items() if future.done() and not _has_failed(future)}
        await self._ledger.run(partial(free, name=name, hashes=[key for key in asked if key not in replied]))
        if name in self._own:
            # What it did not tell of may have been paid for; earlier processes have left that set aside.
            told = {result.custom_id for result in results}
            unheard = [asked[key][0] for key in holds if key in asked and key not in told]
            if unheard:
                await self._ledger.reserve(
                    sum(self.teacher.max_cost_usd(request) or 0.0 for request in unheard)
                )

    async def _lose(self, name: str, hashes: list[str], reason: str) -> None:
        await self._ledger.run(partial(free, name=name, hashes=hashes, lost=True))
        print(
            f"warning: Message Batch {name} {reason}: {len(hashes)} of its requests are lost and asked again",
            file=sys.stderr,
        )

    async def _results(self, name: str) -> list[Any]:
        """The results of a batch, once it has ended; raises Gone."""
        batches, absent = self.teacher.connect().messages.batches, self.teacher.sdk().NotFoundError

        async def look() -> Any:
            try:
                return await batches.retrieve(name)
            except absent:
                raise Gone("is not there any more") from None

        async def read() -> list[Any]:
            try:
                return [result async for result in await batches.results(name)]
            except absent:
                raise Gone("has lost its results") from None

        while (batch := await self._persist(look)).processing_status != "ended":
            await asyncio.sleep(self.poll)
        if batch.results_url is None:
            raise Gone("is archived, without its results")
        return await self._persist(read, timeout=_UPLOAD)

    async def _persist(self, call: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        patience = self.teacher.patience
        if timeout:
            patience = replace(patience, timeout=timeout, deadline=max(patience.deadline, 2 * timeout))

        async def nothing() -> None: ...

        try:
            return await call_with_retries(call, self.teacher.failure, nothing, patience, self.teacher.brake)
        except Unanswered as error:
            # Not a fault of the requests, which would be quarantined for it.
            raise AresError(
                f"Message Batches fail ({error.reason}); nothing that is paid for is lost: give the same command again."
            ) from None


def _has_failed(future: asyncio.Future[Reply]) -> bool:
    return future.cancelled() or future.exception() is not None


def _size(counts: Any) -> int:
    return sum((counts.processing, counts.succeeded, counts.errored, counts.canceled, counts.expired))


def _is_final(error: Any) -> bool:
    return error.error.type == "invalid_request_error"


def _seconds(moment: datetime | str) -> float:
    return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).timestamp()
