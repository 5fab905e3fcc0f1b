"""The ledger's tables, what is found in them, and who holds a lease."""

import os
import socket
import sqlite3
from pathlib import Path

from ares.teachers.messages import Reply

SCHEMA_VERSION = 4
TABLES = """
CREATE TABLE IF NOT EXISTS requests (
    hash           TEXT PRIMARY KEY,
    kind           TEXT NOT NULL,
    teacher        TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    payload        TEXT NOT NULL,              -- JSON
    asked          REAL NOT NULL,              -- seconds since the epoch, of the first intent
    attempts       INTEGER NOT NULL,           -- how often it was claimed, this time included
    owner          TEXT,                       -- who is sending it now, NULL if nobody
    lease_until    REAL NOT NULL,              -- seconds since the epoch
    replied        REAL,                       -- the columns from here on are NULL until the reply is there
    reply          TEXT,
    input_tokens   INTEGER,
    output_tokens  INTEGER,
    usd            REAL,                       -- NULL also where the price is unknown
    stop           TEXT,                       -- why the reply is none: refusal, max_tokens
    batch          TEXT,                       -- key of the last batch that held it
    step           TEXT,                       -- who paid for it: the folder of a run's step
    lost           INTEGER NOT NULL DEFAULT 0  -- how often a batch that held it was canceled or is gone
) STRICT
"""
BATCHES = """
CREATE TABLE IF NOT EXISTS batches (
    key            TEXT PRIMARY KEY,
    created        REAL NOT NULL,              -- seconds since the epoch, of the intent
    size           INTEGER NOT NULL,           -- requests
    id             TEXT                        -- the service's name for it; NULL until it is known
) STRICT
"""
SPENDING = """
CREATE TABLE IF NOT EXISTS spending (          -- per payer (a run): paid, and reserved for what is open
    payer          TEXT PRIMARY KEY,
    usd            REAL NOT NULL
) STRICT
"""
_LOST = "lost INTEGER NOT NULL DEFAULT 0"
_MISSING = {  # from requests, in earlier versions
    1: ("stop TEXT", "batch TEXT", "step TEXT", _LOST),
    2: ("step TEXT", _LOST),
    3: (_LOST,),
}


def prepare(db: sqlite3.Connection) -> None:
    """Makes the tables, or brings those of an earlier version up to this one."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in range(SCHEMA_VERSION + 1):
        raise sqlite3.DatabaseError(f"version {version}, this is version {SCHEMA_VERSION}")
    db.execute(TABLES)
    db.execute(SPENDING)
    db.execute(BATCHES)
    for column in _MISSING.get(version, ()):
        db.execute(f"ALTER TABLE requests ADD COLUMN {column}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def host() -> str:
    """This machine, as leases name it."""
    # Process ids mean something only within one pid namespace of one host.
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{os.readlink(namespace) if namespace.exists() else ''}"


def is_gone(owner: str) -> bool:
    """Whether the process that holds a lease has ended, as far as this machine can tell."""
    name, pid, _ = owner.rsplit("|", 2)
    if name != host():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def find(db: sqlite3.Connection, request_hash: str) -> Reply | None:
    """The recorded reply to a request, None if there is none."""
    row = db.execute(
        "SELECT reply, input_tokens, output_tokens, usd, stop FROM requests"
        " WHERE hash = ? AND reply IS NOT NULL",
        (request_hash,),
    ).fetchone()
    return Reply(row[0], row[1], row[2], row[3], cached=True, stop=row[4] or "") if row else None
