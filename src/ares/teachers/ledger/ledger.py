"""The ledger: every request to a Teacher and its reply, in one SQLite file shared by all runs.

An intent is recorded before a request is sent and the reply is committed before it is used, so nothing is paid
for twice. One caller leases each open intent; the others wait for its reply, or take over when the lease ends.
Money is reserved with the intent, so the cap holds even if the process is killed.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from ares.teachers.ledger.database import Database
from ares.teachers.ledger.leases import has_ended, new_owner
from ares.teachers.ledger.schema import find, prepare
from ares.teachers.messages import Reply, Request, Unanswered
from ares.types import AresError

Send = Callable[[Request], Awaitable[Reply]]
Claim = Literal["claimed", "taken", "over cap"]
T = TypeVar("T")


class OverCap(AresError):
    """The cap leaves no money to repeat a request that may have been paid for."""


class Ledger:
    """The ledger at `path`, created if absent. One object serves one event loop; each process opens its own.

    `lease`: for how many seconds an unresponsive caller blocks the others, which look every `poll` seconds.
    `payer` pays for all requests and spends no more than `max_usd` in total (None: no cap); `step` is recorded
    with each request. Raises AresError for a file that is not a ledger of this version.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        lease: float = 60.0,
        poll: float = 0.2,
        payer: str = "",
        step: str = "",
        max_usd: float | None = None,
    ) -> None:
        self.path = Path(path)
        self.lease, self.poll = lease, poll
        self.payer, self.step, self.max_usd = payer, step, max_usd
        self._leases: dict[str, str] = {}  # owner → request hash, of open requests
        self._renewal: asyncio.Task[None] | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = Database(self.path, prepare)
        except (sqlite3.DatabaseError, OSError) as error:
            raise AresError(
                f"{self.path} cannot be used as a ledger ({error}); move it away or set paths.ledger."
            ) from None

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def known(self, hashes: Iterable[str]) -> set[str]:
        """Those of the requests that have a reply."""
        return self._db.now(lambda db: {item for item in hashes if find(db, item)})

    def spent(self) -> float:
        """What the payer has spent (US dollars), including what is reserved for open and lost requests."""
        return self._db.now(self._spent)

    def paid(self, hashes: Iterable[str]) -> tuple[int, float]:
        """How many of these requests `step` has paid for, in this process or an earlier one, and their cost (US dollars)."""
        query = "SELECT coalesce(usd, 0) FROM requests WHERE hash = ? AND step = ? AND reply IS NOT NULL"
        costs = self._db.now(
            lambda db: [usd for item in hashes for (usd,) in db.execute(query, (item, self.step))]
        )
        return len(costs), sum(costs)

    def pace(self, teacher: str, prompt_version: str, kind: str) -> tuple[float, float | None] | None:
        """Mean output tokens and seconds of such requests that took one attempt; None if there are none.

        Requests in batches count for the tokens only.
        """
        query = (
            "SELECT avg(output_tokens), avg(CASE WHEN batch IS NULL THEN replied - asked END) FROM requests"
            " WHERE reply IS NOT NULL AND attempts = 1 AND teacher = ? AND prompt_version = ? AND kind = ?"
        )
        row = self._db.now(lambda db: db.execute(query, (teacher, prompt_version, kind)).fetchone())
        return row if row[0] is not None else None

    async def ask(self, request: Request, send: Send, *, max_cost: float | None = None) -> Reply:
        """The recorded reply, else that of `send`, which only one caller at a time runs among all processes.

        `max_cost` is the most that sending can cost (US dollars). An exception of `send` is raised after the
        lease is given up, so that the next caller can try. Raises AresError where the cap is below the cost.
        """
        owner = new_owner()
        # Reserved without a cap, too: a cap that is set later counts what a killed process has lost.
        assert max_cost is not None or self.max_usd is None, "a cap needs a price"
        max_cost = max_cost or 0.0
        while True:
            asked = time.monotonic()
            found = await self.run(partial(self._claim, request=request, owner=owner, max_cost=max_cost))
            if isinstance(found, Reply):
                return found
            if found == "claimed":
                # A busy or suspended process learns of its claim late; the lease may have ended by then.
                late = time.monotonic() - asked > self.lease / 3
                if late and not await self.run(partial(self._keep, request.hash, owner, max_cost)):
                    continue
                return await self._send(request, send, owner, max_cost)
            if found == "over cap" and not self._leases:
                raise AresError(
                    f"teacher.max_usd={self.max_usd} is reached: {self.spent():.4f} USD are spent or reserved and the "
                    f"next request may cost {max_cost:.4f}; raise teacher.max_usd and run the same command again to continue."
                )
            await asyncio.sleep(self.poll)

    async def reserve(self, usd: float) -> None:
        """Reserves money for repeating a request that may have been paid for; raises OverCap."""
        if not await self.run(partial(self._reserve, usd=usd)):
            raise OverCap(
                f"teacher.max_usd={self.max_usd} leaves nothing to repeat a lost request; raise teacher.max_usd and "
                "run the same command again to continue."
            )

    async def run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """The result of an operation on the file, after its commit; raises AresError where it fails."""
        try:
            return await self._db.run(operation)
        except sqlite3.Error as error:
            raise AresError(
                f"{self.path} (paths.ledger) cannot be written: {error}; free disk space or check permissions, then "
                "run the same command again."
            ) from None

    async def _send(self, request: Request, send: Send, owner: str, max_cost: float) -> Reply:
        self._leases[owner] = request.hash
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew())
        try:
            try:
                reply = await send(request)
            except BaseException as error:
                refund = max_cost if _is_free(error) else 0.0
                await self.run(partial(self._release, request.hash, owner, refund))
                raise
            return await self.run(partial(self._record, request=request, reply=reply, max_cost=max_cost))
        finally:
            del self._leases[owner]

    async def _renew(self) -> None:
        while self._leases:
            await asyncio.sleep(self.lease / 3)
            rows = [(time.time() + self.lease, item, owner) for owner, item in self._leases.items()]
            await self.run(partial(_extend, rows=rows))

    # Operations: each runs inside a transaction, in the database's thread.

    def _claim(self, db: sqlite3.Connection, request: Request, owner: str, max_cost: float) -> Reply | Claim:
        if reply := find(db, request.hash, self.step):
            return reply
        now = time.time()
        row = db.execute("SELECT owner, lease_until FROM requests WHERE hash = ?", (request.hash,)).fetchone()
        if row and row[0] and row[1] > now and not has_ended(row[0]):
            return "taken"
        if not self._reserve(db, max_cost):
            return "over cap"
        payload = json.dumps(request.payload, ensure_ascii=False, sort_keys=True)
        db.execute(
            "INSERT INTO requests"
            " (hash, kind, teacher, prompt_version, payload, asked, attempts, owner, lease_until, step)"
            " VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?) ON CONFLICT (hash) DO UPDATE SET attempts = attempts + 1,"
            " owner = excluded.owner, lease_until = excluded.lease_until, step = excluded.step",
            (
                *(request.hash, request.kind, request.teacher, request.prompt_version),
                *(payload, now, owner, now + self.lease, self.step),
            ),
        )
        return "claimed"

    def _keep(self, request_hash: str, owner: str, max_cost: float, db: sqlite3.Connection) -> bool:
        """Renews a lease if it is still the owner's; otherwise refunds the reservation."""
        if _extend(db, [(time.time() + self.lease, request_hash, owner)]):
            return True
        self._spend(db, -max_cost)
        return False

    def _release(self, request_hash: str, owner: str, refund: float, db: sqlite3.Connection) -> None:
        db.execute(
            "UPDATE requests SET owner = NULL, lease_until = 0 WHERE hash = ? AND owner = ?",
            (request_hash, owner),
        )
        self._spend(db, -refund)

    def _record(self, db: sqlite3.Connection, request: Request, reply: Reply, max_cost: float) -> Reply:
        self._spend(db, (reply.usd or 0.0) - max_cost)
        # After a lost lease another caller's reply may be recorded already: the first one stays.
        changed = db.execute(
            "UPDATE requests SET replied = ?, reply = ?, input_tokens = ?, output_tokens = ?, usd = ?, stop = ?,"
            " owner = NULL, lease_until = 0 WHERE hash = ? AND reply IS NULL",
            (
                *(time.time(), reply.text, reply.input_tokens, reply.output_tokens, reply.usd),
                *(reply.stop, request.hash),
            ),
        ).rowcount
        return reply if changed else (find(db, request.hash) or reply)

    def _spent(self, db: sqlite3.Connection) -> float:
        row = db.execute("SELECT usd FROM spending WHERE payer = ?", (self.payer,)).fetchone()
        return row[0] if row else 0.0

    def _reserve(self, db: sqlite3.Connection, usd: float) -> bool:
        if self.max_usd is not None and self._spent(db) + usd > self.max_usd:
            return False
        self._spend(db, usd)
        return True

    def _spend(self, db: sqlite3.Connection, usd: float) -> None:
        if usd:
            db.execute(
                "INSERT INTO spending VALUES (?, ?) ON CONFLICT (payer) DO UPDATE SET usd = usd + excluded.usd",
                (self.payer, usd),
            )


def _extend(db: sqlite3.Connection, rows: list[tuple[float, str, str]]) -> int:
    return db.executemany("UPDATE requests SET lease_until = ? WHERE hash = ? AND owner = ?", rows).rowcount


def _is_free(error: BaseException) -> bool:
    """Whether a request that failed like this cannot have been paid for; a cancelled one may have been."""
    if isinstance(error, Unanswered):
        return not error.paid
    return isinstance(error, AresError) and not isinstance(error, OverCap)
