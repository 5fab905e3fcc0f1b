"""Which Message Batch holds which request: operations on the ledger's file (`Ledger.run`)."""

import sqlite3
import time
from collections.abc import Iterable

_KEPT = 29 * 86400  # seconds that the service keeps results


def intend(db: sqlite3.Connection, key: str, hashes: list[str]) -> None:
    """Notes that a batch of these requests is about to be created."""
    db.execute("INSERT INTO batches VALUES (?, ?, ?, NULL)", (key, time.time(), len(hashes)))
    db.executemany("UPDATE requests SET batch = ? WHERE hash = ?", [(key, name) for name in hashes])


def intent(db: sqlite3.Connection, key: str) -> tuple[float, int, set[str], set[str]]:
    """When a batch was meant, its size, its requests, and the names of all batches that are known."""
    created, size = db.execute("SELECT created, size FROM batches WHERE key = ?", (key,)).fetchone()
    hashes = {name for (name,) in db.execute("SELECT hash FROM requests WHERE batch = ?", (key,))}
    known = {name for (name,) in db.execute("SELECT id FROM batches WHERE id IS NOT NULL")}
    return created, size, hashes, known


def name_batch(db: sqlite3.Connection, key: str, name: str) -> None:
    """Notes the service's name for a batch."""
    db.execute("UPDATE batches SET id = ? WHERE key = ?", (name, key))


def is_under_way(db: sqlite3.Connection, request_hash: str) -> bool:
    """Whether a batch holds a request and its result has not been looked at, but may still be there."""
    query = (
        "SELECT 1 FROM requests JOIN batches ON key = batch WHERE hash = ? AND reply IS NULL AND created > ?"
    )
    return db.execute(query, (request_hash, time.time() - _KEPT)).fetchone() is not None


def unfinished(db: sqlite3.Connection, hashes: Iterable[str]) -> list[tuple[str, str | None]]:
    """Key and name of the batches that hold requests without a reply."""
    found: dict[str, str | None] = {}
    query = "SELECT key, id FROM requests JOIN batches ON key = batch WHERE hash = ? AND reply IS NULL"
    for request_hash in hashes:
        found.update(db.execute(query, (request_hash,)))
    return list(found.items())


def held(db: sqlite3.Connection, name: str) -> list[str]:
    """The requests without a reply that a batch holds."""
    query = "SELECT hash FROM requests JOIN batches ON key = batch WHERE id = ? AND reply IS NULL"
    return [request_hash for (request_hash,) in db.execute(query, (name,))]


def free(db: sqlite3.Connection, name: str, hashes: Iterable[str], lost: bool = False) -> None:
    """Notes that a batch has no reply to these requests; `lost`: though it was not the service's answer."""
    query = (
        "UPDATE requests SET batch = NULL, lost = lost + ? WHERE hash = ? AND batch IN"
        " (SELECT key FROM batches WHERE id = ?)"
    )
    db.executemany(query, [(lost, request_hash, name) for request_hash in hashes])
