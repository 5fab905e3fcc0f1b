"""Which Message Batch holds which request: operations for `Ledger.run`."""

import sqlite3
import time
from collections.abc import Iterable

_KEPT = 29 * 86400  # seconds for which the service keeps results


def record_intent(db: sqlite3.Connection, key: str, hashes: list[str]) -> None:
    """Records that a batch of these requests is about to be created."""
    db.execute("INSERT INTO batches VALUES (?, ?, ?, NULL)", (key, time.time(), len(hashes)))
    db.executemany(
        "UPDATE requests SET batch = ? WHERE hash = ?", [(key, request_hash) for request_hash in hashes]
    )


def find_intent(db: sqlite3.Connection, key: str) -> tuple[float, int, set[str], set[str]]:
    """When a batch was to be created, its size, its requests, and the ids of all known batches."""
    created, size = db.execute("SELECT created, size FROM batches WHERE key = ?", (key,)).fetchone()
    hashes = {
        request_hash for (request_hash,) in db.execute("SELECT hash FROM requests WHERE batch = ?", (key,))
    }
    known = {batch_id for (batch_id,) in db.execute("SELECT id FROM batches WHERE id IS NOT NULL")}
    return created, size, hashes, known


def set_batch_id(db: sqlite3.Connection, key: str, batch_id: str) -> None:
    """Records the service's id for a batch."""
    db.execute("UPDATE batches SET id = ? WHERE key = ?", (batch_id, key))


def is_under_way(db: sqlite3.Connection, request_hash: str) -> bool:
    """Whether a batch holds a request whose result has not been fetched and may still be available."""
    query = (
        "SELECT 1 FROM requests JOIN batches ON key = batch WHERE hash = ? AND reply IS NULL AND created > ?"
    )
    return db.execute(query, (request_hash, time.time() - _KEPT)).fetchone() is not None


def unfinished(db: sqlite3.Connection, hashes: Iterable[str]) -> list[tuple[str, str | None]]:
    """Key and id of the batches that hold requests without a reply."""
    found: dict[str, str | None] = {}
    query = "SELECT key, id FROM requests JOIN batches ON key = batch WHERE hash = ? AND reply IS NULL"
    for request_hash in hashes:
        found.update(db.execute(query, (request_hash,)))
    return list(found.items())


def open_requests(db: sqlite3.Connection, batch_id: str) -> list[str]:
    """The requests in a batch that have no reply."""
    query = "SELECT hash FROM requests JOIN batches ON key = batch WHERE id = ? AND reply IS NULL"
    return [request_hash for (request_hash,) in db.execute(query, (batch_id,))]


def release(db: sqlite3.Connection, batch_id: str, hashes: Iterable[str], lost: bool = False) -> None:
    """Records that a batch has no reply to these requests; `lost`: because the batch was canceled or is gone."""
    query = (
        "UPDATE requests SET batch = NULL, lost = lost + ? WHERE hash = ? AND batch IN"
        " (SELECT key FROM batches WHERE id = ?)"
    )
    db.executemany(query, [(lost, request_hash, batch_id) for request_hash in hashes])
