"""The ledger's tables, and looking up a reply in them."""

import sqlite3

from ares.teachers.messages import Reply

SCHEMA_VERSION = 4
_TABLES = """
CREATE TABLE IF NOT EXISTS requests (
    hash           TEXT PRIMARY KEY,
    kind           TEXT NOT NULL,
    teacher        TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    payload        TEXT NOT NULL,              -- JSON
    asked          REAL NOT NULL,              -- seconds since the epoch, of the first intent
    attempts       INTEGER NOT NULL,           -- how often it was claimed, the current claim included
    owner          TEXT,                       -- who is sending it now, NULL if nobody
    lease_until    REAL NOT NULL,              -- seconds since the epoch
    replied        REAL,                       -- this and the next five columns are NULL until the reply arrives
    reply          TEXT,
    input_tokens   INTEGER,
    output_tokens  INTEGER,
    usd            REAL,                       -- NULL also where the price is unknown
    stop           TEXT,                       -- why the reply is unusable: refusal, max_tokens
    batch          TEXT,                       -- key of the last batch that held it
    step           TEXT,                       -- who paid for it: the folder of a run's step
    lost           INTEGER NOT NULL DEFAULT 0  -- how often a batch that held it was canceled or is gone
) STRICT;
CREATE TABLE IF NOT EXISTS batches (
    key            TEXT PRIMARY KEY,
    created        REAL NOT NULL,              -- seconds since the epoch, of the intent
    size           INTEGER NOT NULL,           -- requests
    id             TEXT                        -- the service's id, NULL until it is known
) STRICT;
CREATE TABLE IF NOT EXISTS spending (          -- per payer (a run): paid, and reserved for open requests
    payer          TEXT PRIMARY KEY,
    usd            REAL NOT NULL
) STRICT
"""


def prepare(db: sqlite3.Connection) -> None:
    """Creates the tables; raises sqlite3.DatabaseError for a file of another version."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, SCHEMA_VERSION):
        raise sqlite3.DatabaseError(f"version {version}, this is version {SCHEMA_VERSION}")
    for table in _TABLES.split(";"):  # executescript() would end the transaction
        db.execute(table)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def find(db: sqlite3.Connection, request_hash: str, step: str = "") -> Reply | None:
    """The recorded reply to a request, None if there is none; `own` if `step` has paid for it."""
    row = db.execute(
        "SELECT reply, input_tokens, output_tokens, usd, stop, step FROM requests"
        " WHERE hash = ? AND reply IS NOT NULL",
        (request_hash,),
    ).fetchone()
    if row is None:
        return None
    return Reply(row[0], row[1], row[2], row[3], True, row[4] or "", bool(step) and row[5] == step)
