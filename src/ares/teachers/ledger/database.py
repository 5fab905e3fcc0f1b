"""A SQLite file for many coroutines and processes: what waits together is committed together.

A commit costs a disk synchronisation, so one for each of thousands of small changes would set the pace. Here
a thread takes all changes that wait, makes them in one transaction, and only then wakes those who wait.
"""

import asyncio
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
Outcome = tuple[Any, BaseException | None]  # a result, or what went wrong

# As /proc/mounts names them; beside these all of FUSE (see `is_network_path`).
NETWORK_FILE_SYSTEMS = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda"),
        *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "panfs", "orangefs", "pvfs2", "wekafs", "dvs"),
        *("gfs2", "ocfs2", "acfs"),  # one disk for several hosts
        *("9p", "virtiofs", "vboxsf", "prl_fs", "drvfs"),  # a virtual machine's folder on its host
    )
)


def is_network_path(path: Path, mounts: str | None = None) -> bool:
    """Whether a path is on a network file system, by `mounts` (as /proc/mounts); False if unknown.

    FUSE counts as one, whatever is behind it (sshfs, gcsfuse, s3fs ...): the names are without number, many
    mounts have none, and memory that is shared through it need not be the same for all.
    """
    if mounts is None:
        table = Path("/proc/mounts")
        mounts = table.read_text() if table.exists() else ""
    path = path.resolve()  # a link may lead elsewhere
    found = [line.split(" ")[1:3] for line in mounts.splitlines() if line.count(" ") >= 2]
    holding = [(len(point), kind) for point, kind in found if path.is_relative_to(_unescaped(point))]
    # Of equal mount points the later one hides the earlier.
    kind = max(reversed(holding), key=lambda item: item[0])[1] if holding else ""
    return kind in NETWORK_FILE_SYSTEMS or kind.split(".")[0] == "fuse"


def _unescaped(point: str) -> str:
    # Blanks, tabs, line ends and backslashes stand there as octal numbers.
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)


class Database:
    """The SQLite file at `path`; `prepare` makes or upgrades its tables. Raises sqlite3.DatabaseError."""

    def __init__(self, path: Path, prepare: Operation[None]) -> None:
        self._db = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._lock = threading.Lock()
        self._waiting: list[tuple[Operation[Any], asyncio.Future[Any]]] = []
        try:
            # WAL keeps its index in shared memory, which a network file system does not share between hosts.
            self._set_journal("DELETE" if is_network_path(path) else "WAL")
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
        """The operation's result after its commit, which it shares with all operations that wait by then."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting.append((operation, future))
        self._thread.submit(self._commit)
        return await future

    def close(self) -> None:
        """Closes the file, after what is under way."""
        self._thread.shutdown()
        self._db.close()

    def _commit(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        if not batch:
            return
        outcomes = self._outcomes([operation for operation, _ in batch])
        futures = [future for _, future in batch]
        with suppress(RuntimeError):  # the loop of a program that ends is closed
            futures[0].get_loop().call_soon_threadsafe(_settle, futures, outcomes)

    def _outcomes(self, operations: list[Operation[Any]]) -> list[Outcome]:
        try:
            with self._transaction():
                return [(operation(self._db), None) for operation in operations]
        except BaseException as error:
            if len(operations) == 1 or isinstance(error, sqlite3.OperationalError):
                return [(None, error)] * len(operations)
        # What one of them cannot do undoes none of the others.
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

    def _set_journal(self, journal: str) -> None:
        # Changing the mode does not wait for other connections, so two first openings may collide.
        for attempt in range(100):
            (current,) = self._db.execute("PRAGMA journal_mode").fetchone()
            if current.upper() == journal:
                return
            with suppress(sqlite3.OperationalError):
                self._db.execute(f"PRAGMA journal_mode = {journal}")
            if attempt:
                time.sleep(0.05)


def _settle(futures: list[asyncio.Future[Any]], outcomes: list[Outcome]) -> None:
    for future, (result, error) in zip(futures, outcomes, strict=True):
        if future.done():
            continue  # its asker was cancelled
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
