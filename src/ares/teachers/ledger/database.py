"""A SQLite file for many coroutines and processes, with group commit.

A commit costs a disk synchronization, so one commit per change would limit the throughput. A thread takes all
changes that are waiting, applies them in one transaction, and wakes their callers after the commit.

The file keeps SQLite's default rollback journal: WAL needs shared memory, which processes on different hosts
of a network file system do not have.
"""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
Outcome = tuple[Any, BaseException | None]  # a result, or what went wrong


def unusable(path: Path) -> str | None:
    """Why a ledger cannot be written at a path, None if it can; nothing is created."""
    ledger = path.resolve()
    there = next(place for place in (ledger, *ledger.parents) if place.exists())
    if ledger.is_dir():
        return f"{ledger} is a folder"
    if there not in (ledger, *filter(Path.is_dir, ledger.parents)):
        return f"{there} is a file, {ledger} cannot be created below it"
    if not os.access(there, os.W_OK):
        return f"{there} cannot be written"
    return None


class Database:
    """The SQLite file at `path`, with mode 0600; `prepare` creates its tables.

    Raises sqlite3.DatabaseError, and OSError where the file cannot be created.
    """

    def __init__(self, path: Path, prepare: Operation[None]) -> None:
        _restrict(path)
        self._db = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._lock = threading.Lock()
        self._waiting: list[tuple[Operation[Any], asyncio.Future[Any]]] = []
        try:
            self._db.execute("PRAGMA synchronous = FULL")
            self.now(prepare)
        except sqlite3.DatabaseError:
            self.close()
            raise

    def now(self, operation: Operation[T]) -> T:
        """The operation's result after its commit; blocks the caller."""

        def alone() -> T:
            with self._transaction():
                return operation(self._db)

        return self._thread.submit(alone).result()

    async def run(self, operation: Operation[T]) -> T:
        """The operation's result after its commit, shared with all operations that are waiting by then."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting.append((operation, future))
        self._thread.submit(self._commit)
        return await future

    def close(self) -> None:
        """Closes the file when pending operations are done."""
        self._thread.shutdown()
        self._db.close()

    def _commit(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        if not batch:
            return
        outcomes = self._outcomes([operation for operation, _ in batch])
        futures = [future for _, future in batch]
        with suppress(RuntimeError):  # the event loop is closed when the program ends
            futures[0].get_loop().call_soon_threadsafe(_settle, futures, outcomes)

    def _outcomes(self, operations: list[Operation[Any]]) -> list[Outcome]:
        try:
            with self._transaction():
                return [(operation(self._db), None) for operation in operations]
        except BaseException as error:
            if len(operations) == 1 or isinstance(error, sqlite3.OperationalError):
                return [(None, error)] * len(operations)
        # One failed operation must not undo the others.
        return [outcome for operation in operations for outcome in self._outcomes([operation])]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _restrict(path: Path) -> None:
    """Creates the file if it is absent; only its owner may read it, because it holds questions and replies."""
    if not path.exists():
        path.touch(mode=0o600)
    with suppress(PermissionError):  # another user's file
        if path.is_file():
            path.chmod(0o600)


def _settle(futures: list[asyncio.Future[Any]], outcomes: list[Outcome]) -> None:
    for future, (result, error) in zip(futures, outcomes, strict=True):
        if future.done():
            continue  # its caller was cancelled
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
