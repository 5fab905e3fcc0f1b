"""Requests in Message Batches: half the price, within 24 hours, and submitted once even across crashes.

The intent to submit a batch is committed before it is created, its name afterwards. Whoever finds an intent
without a name looks through the service's recent batches for it, by its size and the ids in its results,
before it submits anything.
"""

import asyncio
import json
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ares.teachers.ledger import Ledger
from ares.teachers.messages import Reply, Request, Unanswered
from ares.teachers.retry import persist

if TYPE_CHECKING:
    from ares.teachers.anthropic import AnthropicTeacher

T = TypeVar("T")
Asked = dict[str, tuple[Request, asyncio.Future[Reply]]]

MOST_REQUESTS, MOST_BYTES = 100_000, 200_000_000  # of one batch, by the API's documentation
_ROUNDS = 3  # a request that fails, expires or is missing goes into so many batches
_CLOCKS = 600  # seconds by which the service's clock may differ from ours
_KEPT = 29 * 86400  # seconds that the service keeps results
_UPLOAD = 600.0  # seconds that a batch's creation may take


class Batches:
    """Collects what is to be sent until for `quiet` seconds nothing comes; looks for results every `poll`
    seconds."""

    def __init__(self, teacher: "AnthropicTeacher", *, quiet: float = 2.0, poll: float = 30.0) -> None:
        self.teacher, self.quiet, self.poll = teacher, quiet, poll
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
                for _, future in _open(asked).values():
                    future.cancel()
                raise
            except Exception as error:
                for _, future in _open(asked).values():
                    future.set_exception(error)

    async def _settle(self, asked: Asked) -> None:
        """Every request's reply or failure, from batches of earlier processes and of our own."""
        for key, name in await self._ledger.run(partial(_unfinished, hashes=list(asked))):
            if name := name or await self._find(key):
                await self._collect(name, asked)
        for _ in range(_ROUNDS):
            submitted = [await self._submit(part) for part in _cut(_open(asked), self._arguments)]
            for name in submitted:
                await self._collect(name, asked)
        for _, future in _open(asked).values():
            future.set_exception(Unanswered(f"no result in {_ROUNDS} batches"))

    @property
    def _ledger(self) -> Ledger:
        assert self.teacher.ledger is not None, "batches need a ledger"
        return self.teacher.ledger

    async def _submit(self, part: Asked) -> str:
        key = uuid.uuid4().hex
        await self._ledger.run(partial(_intend, key=key, hashes=list(part)))
        requests: Any = [
            {"custom_id": name, "params": self._arguments(request)} for name, (request, _) in part.items()
        ]
        tried = False

        async def create() -> str:
            nonlocal tried
            # A creation that failed may have succeeded all the same.
            if tried and (name := await self._find(key)):
                return name
            tried = True
            batch = await self.teacher.connect().messages.batches.create(requests=requests, timeout=_UPLOAD)
            return batch.id

        name = await self._persist(create, timeout=_UPLOAD)
        await self._ledger.run(partial(_name, key=key, name=name))
        return name

    def _arguments(self, request: Request) -> dict[str, Any]:
        arguments = self.teacher.arguments(request.payload)
        return {**arguments, **arguments.pop("extra_body", {})}

    async def _find(self, key: str) -> str | None:
        """The service's name for a batch that was meant to be created; None if it was not."""
        created, size, hashes, known = await self._ledger.run(partial(_intent, key=key))
        for batch in await self._persist(partial(self._recent, created - _CLOCKS)):
            counts = batch.request_counts
            total = sum(
                (counts.processing, counts.succeeded, counts.errored, counts.canceled, counts.expired)
            )
            if batch.id in known or total != size:
                continue
            results = await self._results(batch.id)
            if any(result.custom_id in hashes for result in results):
                await self._ledger.run(partial(_name, key=key, name=batch.id))
                return batch.id
        return None

    async def _recent(self, since: float) -> list[Any]:
        found = []
        async for batch in self.teacher.connect().messages.batches.list(limit=100):
            if _seconds(batch.created_at) < since:
                break
            found.append(batch)
        return found

    async def _collect(self, name: str, asked: Asked) -> None:
        for result in await self._results(name):
            request, future = asked.get(result.custom_id, (None, None))
            if request is None or future is None or future.done():
                continue  # of another process, or a second time
            if result.result.type == "succeeded":
                try:
                    future.set_result(self.teacher.reply(result.result.message))
                except ValueError:
                    continue  # asked again in the next batch
            elif result.result.type == "errored" and _is_final(result.result.error):
                reason = self.teacher.redacted(str(result.result.error.error.message))[:300]
                future.set_exception(Unanswered(reason))
        replied = {key for key, (_, future) in asked.items() if future.done() and not _has_failed(future)}
        failed = [key for key in asked if key not in replied]
        await self._ledger.run(partial(_free, name=name, hashes=failed))

    async def _results(self, name: str) -> list[Any]:
        """The results of a batch, once it has ended."""
        batches = self.teacher.connect().messages.batches
        while (await self._persist(lambda: batches.retrieve(name))).processing_status != "ended":
            await asyncio.sleep(self.poll)

        async def read() -> list[Any]:
            return [result async for result in await batches.results(name)]

        return await self._persist(read, timeout=_UPLOAD)

    async def _persist(self, call: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        patience = self.teacher.patience
        if timeout:
            patience = replace(patience, timeout=timeout, deadline=max(patience.deadline, 2 * timeout))

        async def nothing() -> None: ...

        return await persist(call, self.teacher.failure, nothing, patience, self.teacher.brake)


def _open(asked: Asked) -> Asked:
    return {name: item for name, item in asked.items() if not item[1].done()}


def _cut(asked: Asked, arguments: Callable[[Request], Mapping[str, Any]]) -> Iterator[Asked]:
    """Parts that each fit into one batch."""
    part: Asked = {}
    room = MOST_BYTES
    for name, item in asked.items():
        size = len(json.dumps(arguments(item[0]), ensure_ascii=False).encode()) + len(name) + 64
        if part and (size > room or len(part) == MOST_REQUESTS):
            yield part
            part, room = {}, MOST_BYTES
        part[name] = item
        room -= size
    if part:
        yield part


def _has_failed(future: asyncio.Future[Reply]) -> bool:
    return future.cancelled() or future.exception() is not None


def _is_final(error: Any) -> bool:
    return error.error.type == "invalid_request_error"


def _seconds(moment: datetime | str) -> float:
    return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).timestamp()


# Operations on the ledger's file


def is_under_way(db: sqlite3.Connection, request_hash: str) -> bool:
    """Whether a batch holds a request and its result has not been looked at, but may still be there."""
    query = (
        "SELECT 1 FROM requests JOIN batches ON key = batch WHERE hash = ? AND reply IS NULL AND created > ?"
    )
    return db.execute(query, (request_hash, time.time() - _KEPT)).fetchone() is not None


def _free(db: sqlite3.Connection, name: str, hashes: Iterable[str]) -> None:
    """Notes that a batch has no reply to these requests."""
    query = (
        "UPDATE requests SET batch = NULL WHERE hash = ? AND batch IN (SELECT key FROM batches WHERE id = ?)"
    )
    db.executemany(query, [(request_hash, name) for request_hash in hashes])


def _unfinished(db: sqlite3.Connection, hashes: Iterable[str]) -> list[tuple[str, str | None]]:
    """Key and name of the batches that hold requests without a reply."""
    found: dict[str, str | None] = {}
    query = "SELECT key, id FROM requests JOIN batches ON key = batch WHERE hash = ? AND reply IS NULL"
    for request_hash in hashes:
        found.update(db.execute(query, (request_hash,)))
    return list(found.items())


def _intend(db: sqlite3.Connection, key: str, hashes: list[str]) -> None:
    db.execute("INSERT INTO batches VALUES (?, ?, ?, NULL)", (key, time.time(), len(hashes)))
    db.executemany("UPDATE requests SET batch = ? WHERE hash = ?", [(key, name) for name in hashes])


def _intent(db: sqlite3.Connection, key: str) -> tuple[float, int, set[str], set[str]]:
    """When a batch was meant, its size, its requests, and the names of all batches that are known."""
    created, size = db.execute("SELECT created, size FROM batches WHERE key = ?", (key,)).fetchone()
    hashes = {name for (name,) in db.execute("SELECT hash FROM requests WHERE batch = ?", (key,))}
    known = {name for (name,) in db.execute("SELECT id FROM batches WHERE id IS NOT NULL")}
    return created, size, hashes, known


def _name(db: sqlite3.Connection, key: str, name: str) -> None:
    db.execute("UPDATE batches SET id = ? WHERE key = ?", (name, key))
