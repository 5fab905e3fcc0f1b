"""The ledger: every request to a Teacher and its reply, in one SQLite file shared by all runs on a host.

An intent is recorded before a request is sent and the reply is committed before it is used: what was paid for
is never asked again. Each open intent is leased by one asker; others wait for its reply, or take over when
the lease ends.
"""

import asyncio
import json
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ares.teachers.base import Reply, Request
from ares.types import AresError

Send = Callable[[Request], Awaitable[Reply]]

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    hash           TEXT PRIMARY KEY,
    kind           TEXT NOT NULL,
    teacher        TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    payload        TEXT NOT NULL,              -- JSON
    asked          REAL NOT NULL,              -- seconds since the epoch, of the first intent
    attempts       INTEGER NOT NULL,           -- how often it was sent, this time included
    owner          TEXT,                       -- who is sending it now, NULL if nobody
    lease_until    REAL NOT NULL,              -- seconds since the epoch
    replied        REAL,                       -- the columns from here on are NULL until the reply is there
    reply          TEXT,
    input_tokens   INTEGER,
    output_tokens  INTEGER,
    usd            REAL                        -- NULL also where the price is unknown
) STRICT
"""
NETWORK_FILE_SYSTEMS = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "afs", "9p", "panfs"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.gcsfuse", "fuse.s3fs", "fuse.juicefs"),
)


def is_network_path(path: Path, mounts: str | None = None) -> bool:
    """Whether a path is on a network file system, by `mounts` (as /proc/mounts); False if unknown."""
    if mounts is None:
        table = Path("/proc/mounts")
        mounts = table.read_text() if table.exists() else ""
    path = path.absolute()
    found = [line.split()[1:3] for line in mounts.splitlines() if len(line.split()) >= 3]
    holding = [
        (len(point), kind) for point, kind in found if path.is_relative_to(point.replace("\\040", " "))
    ]
    # Of equal mount points the later one hides the earlier.
    return bool(holding) and max(reversed(holding), key=lambda item: item[0])[1] in NETWORK_FILE_SYSTEMS


def _host() -> str:
    # Process ids mean something only within one pid namespace of one host.
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{os.readlink(namespace) if namespace.exists() else ''}"


def _is_gone(owner: str) -> bool:
    host, pid, _ = owner.rsplit("|", 2)
    if host != _host():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


class Ledger:
    """The ledger at `path`, made if absent. One object serves one event loop; processes open their own.

    `lease` is how many seconds a silent asker blocks the others, `poll` how often these look. Raises
    AresError for a file that is no ledger of this version.
    """

    def __init__(self, path: Path | str, *, lease: float = 60.0, poll: float = 0.2) -> None:
        self.path = Path(path)
        self.lease = lease
        self.poll = poll
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(self.path, timeout=60.0, isolation_level=None)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise AresError(
                f"{self.path} cannot be used as a ledger ({error}); move it away or set paths.ledger."
            ) from None

    def _open(self) -> None:
        # WAL keeps its index in shared memory, which a network file system does not share between hosts.
        journal = "DELETE" if is_network_path(self.path) else "WAL"
        self._set_journal(journal)
        self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"version {version}, this is version {SCHEMA_VERSION}")
            self._db.execute(SCHEMA)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

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

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find(self, request_hash: str) -> Reply | None:
        """The recorded reply to a request, None if there is none (yet)."""
        row = self._db.execute(
            "SELECT reply, input_tokens, output_tokens, usd FROM requests"
            " WHERE hash = ? AND reply IS NOT NULL",
            (request_hash,),
        ).fetchone()
        if row is None:
            return None
        text, input_tokens, output_tokens, usd = row
        return Reply(text, input_tokens, output_tokens, usd, cached=True)

    async def ask(self, request: Request, send: Send) -> Reply:
        """The recorded reply, else that of `send`, which is called by one asker at a time among all
        processes.

        What `send` raises is passed on after the lease is given up, so that the next asker may try.
        """
        owner = f"{_host()}|{os.getpid()}|{uuid.uuid4().hex}"
        while not (reply := self.find(request.hash)):
            if self._claim(request, owner):
                return await self._send(request, send, owner)
            await asyncio.sleep(self.poll)
        return reply

    async def _send(self, request: Request, send: Send, owner: str) -> Reply:
        renewal = asyncio.create_task(self._renew(request.hash, owner))
        try:
            reply = await send(request)
        except BaseException:
            self._db.execute(
                "UPDATE requests SET owner = NULL, lease_until = 0 WHERE hash = ? AND owner = ?",
                (request.hash, owner),
            )
            raise
        finally:
            renewal.cancel()
        return self._record(request, reply)

    def _claim(self, request: Request, owner: str) -> bool:
        now = time.time()
        with self._transaction():
            row = self._db.execute(
                "SELECT owner, lease_until, reply IS NOT NULL FROM requests WHERE hash = ?", (request.hash,)
            ).fetchone()
            if row and (row[2] or (row[0] and row[1] > now and not _is_gone(row[0]))):
                return False
            self._db.execute(
                "INSERT INTO requests"
                " (hash, kind, teacher, prompt_version, payload, asked, attempts, owner, lease_until)"
                " VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?) ON CONFLICT (hash) DO UPDATE SET"
                " attempts = attempts + 1, owner = excluded.owner, lease_until = excluded.lease_until",
                (
                    request.hash,
                    request.kind,
                    request.teacher,
                    request.prompt_version,
                    json.dumps(request.payload, ensure_ascii=False, sort_keys=True),
                    now,
                    owner,
                    now + self.lease,
                ),
            )
        return True

    async def _renew(self, request_hash: str, owner: str) -> None:
        while True:
            await asyncio.sleep(self.lease / 3)
            self._db.execute(
                "UPDATE requests SET lease_until = ? WHERE hash = ? AND owner = ?",
                (time.time() + self.lease, request_hash, owner),
            )

    def _record(self, request: Request, reply: Reply) -> Reply:
        # An asker that lost its lease may find the reply of another: the first one stays.
        values = (time.time(), reply.text, reply.input_tokens, reply.output_tokens, reply.usd, request.hash)
        changed = self._db.execute(
            "UPDATE requests SET replied = ?, reply = ?, input_tokens = ?, output_tokens = ?, usd = ?,"
            " owner = NULL, lease_until = 0 WHERE hash = ? AND reply IS NULL",
            values,
        ).rowcount
        return reply if changed else (self.find(request.hash) or reply)
