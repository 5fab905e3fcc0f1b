import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ares.teachers.base import Reply, Request
from ares.teachers.ledger.database import is_network_path
from ares.teachers.ledger.ledger import Ledger
from ares.types import AresError

REQUEST = Request("score", "claude", "1", {"question": "Why?", "images": ["ab" * 32]})
REPLY = Reply('{"1.1": 0.5}', 120, 9, 0.0125)


class Sender:
    """Counts what is sent and how much of it at once."""

    def __init__(self, seconds: float = 0.0, failures: int = 0) -> None:
        self.seconds, self.failures = seconds, failures
        self.sent = self.now = self.most = 0

    async def __call__(self, request: Request) -> Reply:
        self.sent += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.seconds)
        self.now -= 1
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no network")
        return REPLY


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "ledger.sqlite"


def rows(path) -> list[dict]:
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    return [dict(row) for row in db.execute("SELECT * FROM requests")]


def test_request_hash():
    same = Request("score", "claude", "1", {"images": ["ab" * 32], "question": "Why?"})
    assert same.hash == REQUEST.hash
    assert len(REQUEST.hash) == 64
    others = [
        Request("judge", "claude", "1", REQUEST.payload),
        Request("score", "gpt", "1", REQUEST.payload),
        Request("score", "claude", "2", REQUEST.payload),
        Request("score", "claude", "1", {**REQUEST.payload, "images": []}),
    ]
    assert len({REQUEST.hash, *(other.hash for other in others)}) == 5


def test_a_reply_is_paid_once(path):
    send = Sender()
    with Ledger(path) as ledger:
        assert asyncio.run(ledger.ask(REQUEST, send)) == REPLY
    with Ledger(path) as ledger:
        again = asyncio.run(ledger.ask(REQUEST, send))
        assert ledger.find("0" * 64) is None
    assert again == Reply(REPLY.text, 120, 9, 0.0125, cached=True)
    assert send.sent == 1
    (row,) = rows(path)
    assert row["hash"] == REQUEST.hash
    assert (row["kind"], row["teacher"], row["prompt_version"]) == ("score", "claude", "1")
    assert row["payload"] == '{"images": ["' + "ab" * 32 + '"], "question": "Why?"}'
    assert (row["attempts"], row["owner"]) == (1, None)
    assert row["replied"] >= row["asked"]


def test_unknown_price_stays_unknown(path):
    async def send(_):
        return Reply("x", 1, 1, None)

    with Ledger(path) as ledger:
        asyncio.run(ledger.ask(REQUEST, send))
        found = ledger.find(REQUEST.hash)
    assert found is not None
    assert found.usd is None


def test_the_intent_is_there_before_sending_and_the_reply_before_using(path):
    async def send(_):
        (row,) = rows(path)
        assert row["reply"] is None
        assert row["lease_until"] > time.time()
        return REPLY

    with Ledger(path) as ledger:
        asyncio.run(ledger.ask(REQUEST, send))
        assert rows(path)[0]["reply"] == REPLY.text


def test_concurrent_askers_of_one_loop_send_once(path):
    async def main():
        send = Sender(0.1)
        with Ledger(path, poll=0.02) as ledger:
            replies = await asyncio.gather(*(ledger.ask(REQUEST, send) for _ in range(5)))
        assert [reply.text for reply in replies] == [REPLY.text] * 5
        assert sorted(reply.cached for reply in replies) == [False] + [True] * 4
        assert send.sent == 1

    asyncio.run(main())


def test_a_failed_sending_leaves_the_way_free(path):
    send = Sender(failures=1)
    with Ledger(path) as ledger:
        with pytest.raises(ConnectionError):
            asyncio.run(ledger.ask(REQUEST, send))
        started = time.monotonic()
        assert asyncio.run(ledger.ask(REQUEST, send)) == REPLY
    assert time.monotonic() - started < 1
    assert rows(path)[0]["attempts"] == 2


def test_a_cancelled_sending_leaves_the_way_free(path):
    async def main():
        with Ledger(path) as ledger:
            task = asyncio.create_task(ledger.ask(REQUEST, Sender(60)))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.wait_for(ledger.ask(REQUEST, Sender()), 1) == REPLY

    asyncio.run(main())


def test_a_long_sending_keeps_its_lease(path):
    async def main():
        send = Sender(0.6)
        with Ledger(path, lease=0.15, poll=0.02) as first, Ledger(path, lease=0.15, poll=0.02) as second:
            await asyncio.gather(first.ask(REQUEST, send), second.ask(REQUEST, send))
        assert send.sent == 1

    asyncio.run(main())


def test_an_expired_lease_of_another_host_is_taken_over(path):
    with Ledger(path, lease=0.3, poll=0.02) as ledger:
        ledger._db.now(lambda db: ledger._claim(db, REQUEST, "elsewhere/pid:[1]|7|x", 0.0))
        started = time.monotonic()
        assert asyncio.run(ledger.ask(REQUEST, Sender())) == REPLY
    assert 0.2 < time.monotonic() - started < 5
    assert rows(path)[0]["attempts"] == 2


def test_a_claim_that_is_heard_of_after_its_lease_is_not_sent(path):
    def asked_elsewhere() -> Reply:
        with Ledger(path, payer="b") as other:
            return asyncio.run(other.ask(REQUEST, Sender()))

    async def main():
        send = Sender()
        with Ledger(path, lease=0.2, poll=0.02, payer="a") as busy, ThreadPoolExecutor() as pool:
            asked = asyncio.create_task(busy.ask(REQUEST, send, worst=0.5))
            await asyncio.sleep(0)
            time.sleep(0.4)  # the loop is busy with something else
            assert pool.submit(asked_elsewhere).result() == REPLY  # and until this is done
            assert (await asked).cached
            assert busy.spent() == 0
        assert send.sent == 0

    asyncio.run(main())


def test_a_claim_that_is_heard_of_late_is_renewed_and_sent(path):
    async def main():
        send = Sender()
        with Ledger(path, lease=0.2, poll=0.02, payer="a") as busy:
            asked = asyncio.create_task(busy.ask(REQUEST, send, worst=0.5))
            await asyncio.sleep(0)
            time.sleep(0.4)
            assert await asked == REPLY
            assert busy.spent() == pytest.approx(REPLY.usd)

    asyncio.run(main())


def test_who_lost_a_lease_does_not_end_that_of_another(path):
    with Ledger(path) as ledger:
        ledger._db.now(lambda db: ledger._claim(db, REQUEST, "elsewhere/pid:[1]|7|x", 0.0))
        ledger._db.now(lambda db: ledger._release(REQUEST.hash, "elsewhere/pid:[1]|6|y", 0.0, db))
    (row,) = rows(path)
    assert row["owner"] == "elsewhere/pid:[1]|7|x"
    assert row["lease_until"] > time.time()


def test_who_takes_over_pays(path):
    with Ledger(path, step="a/score", lease=0.0) as ledger:
        ledger._db.now(lambda db: ledger._claim(db, REQUEST, "elsewhere/pid:[1]|7|x", 0.0))
    with Ledger(path, step="b/score", poll=0.02) as ledger:
        asyncio.run(ledger.ask(REQUEST, Sender()))
        assert ledger.paid([REQUEST.hash]) == REPLY.usd


def test_a_commit_is_on_the_disk(path):
    with Ledger(path) as ledger:
        assert ledger._db.now(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)  # FULL


def test_the_first_reply_stays(path):
    with Ledger(path) as ledger:
        asyncio.run(ledger.ask(REQUEST, Sender()))
        late = ledger._db.now(lambda db: ledger._record(db, REQUEST, Reply("another", 1, 1, 1.0), 0.0))
    assert late.text == REPLY.text
    assert rows(path)[0]["reply"] == REPLY.text


CHILD = textwrap.dedent(
    """
    import asyncio, sys, time
    from ares.teachers.base import Reply, Request
    from ares.teachers.ledger.ledger import Ledger

    path, log, mode = sys.argv[1:]

    async def send(request):
        with open(log, "a") as file:
            file.write(request.hash + "\\n")
        if mode == "crash":
            time.sleep(60)
        await asyncio.sleep(0.01)
        return Reply("reply " + request.hash, 1, 1, 0.5)

    async def main():
        with Ledger(path, poll=0.02) as ledger:
            requests = [Request("score", "t", "1", {"n": n}) for n in range(1 if mode == "crash" else 20)]
            if mode == "backwards":
                requests.reverse()
            replies = await asyncio.gather(*(ledger.ask(request, send) for request in requests))
            assert [r.text for r in replies] == ["reply " + request.hash for request in requests]
            print(sum(not reply.cached for reply in replies))

    asyncio.run(main())
    """
)


def child(path, log, mode) -> subprocess.Popen:
    command = [sys.executable, "-c", CHILD, str(path), str(log), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_share_the_work_and_send_nothing_twice(path, tmp_path):
    log = tmp_path / "log"
    children = [child(path, log, mode) for mode in ("forwards", "backwards", "forwards")]
    outputs = [process.communicate(timeout=60)[0] for process in children]
    assert [process.returncode for process in children] == [0, 0, 0]
    sent = log.read_text().split()
    assert len(sent) == len(set(sent)) == 20
    assert sum(map(int, outputs)) == 20


def test_a_crash_between_intent_and_reply(path, tmp_path):
    log = tmp_path / "log"
    crashed = child(path, log, "crash")
    deadline = time.monotonic() + 30
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(crashed.pid, signal.SIGKILL)
    crashed.communicate()
    (row,) = rows(path)
    assert (row["attempts"], row["reply"]) == (1, None)
    assert row["lease_until"] > time.time()
    started = time.monotonic()
    with Ledger(path) as ledger:  # a dead owner on this host is not waited for
        request = Request("score", "t", "1", {"n": 0})
        assert request.hash == row["hash"]
        assert asyncio.run(ledger.ask(request, Sender())) == REPLY
    assert time.monotonic() - started < 5
    assert rows(path)[0]["attempts"] == 2


MOUNTS = """\
overlay / overlay rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sda1 /home/local\\040disk ext4 rw 0 0
//box/share /mnt/share cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/tmp/x", False),
        ("/home/me/ledger.sqlite", True),
        ("/home/local disk/x", False),
        ("/mnt/share/x", True),
        ("/mnt/shared/x", False),
    ],
)
def test_network_file_systems(tmp_path, path, network):
    assert is_network_path(Path(path), MOUNTS) is network


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        *(
            (kind, True)
            for kind in ("nfs", "nfs4", "cifs", "smb2", "smb3", "glusterfs", "lustre", "gpfs", "beegfs")
        ),
        *((kind, True) for kind in ("ceph", "9p", "afs", "orangefs", "wekafs", "virtiofs", "gfs2", "ocfs2")),
        *(
            (f"fuse.{kind}", True)
            for kind in ("sshfs", "gcsfuse", "s3fs", "glusterfs", "rclone", "ceph-fuse")
        ),
        ("fuse", True),
        *((kind, False) for kind in ("ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "apfs")),
    ],
)
def test_kinds_of_file_systems(kind, network):
    mounts = f"/dev/x / ext4 rw 0 0\nserver:/x /data\\011of\\134all {kind} rw 0 0\n"
    assert is_network_path(Path("/data\tof\\all/ledger"), mounts) is network
    assert not is_network_path(Path("/elsewhere/ledger"), mounts)


def test_a_link_into_a_network_file_system_is_one(tmp_path):
    (tmp_path / "share").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "share")
    mounts = f"{MOUNTS}server:/x {tmp_path.resolve()}/share nfs4 rw 0 0\n"
    assert is_network_path(tmp_path / "runs" / "ledger.sqlite", mounts)
    assert not is_network_path(tmp_path / "elsewhere" / "ledger.sqlite", mounts)


def test_journal_by_file_system(tmp_path, monkeypatch):
    def journal(ledger) -> str:
        return ledger._db.now(lambda db: db.execute("PRAGMA journal_mode").fetchone()[0])

    monkeypatch.setattr("ares.teachers.ledger.database.is_network_path", lambda path: False)
    with Ledger(tmp_path / "local") as ledger:
        assert journal(ledger) == "wal"
    monkeypatch.setattr("ares.teachers.ledger.database.is_network_path", lambda path: True)
    with Ledger(tmp_path / "network") as ledger:
        assert journal(ledger) == "delete"
        assert asyncio.run(ledger.ask(REQUEST, Sender())) == REPLY


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "text").write_text("no database, and long enough to be looked at " * 40)
    with pytest.raises(AresError, match=r"paths\.ledger"):
        Ledger(tmp_path / "text")
    db = sqlite3.connect(tmp_path / "newer")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(AresError, match="version 99"):
        Ledger(tmp_path / "newer")


def test_a_place_where_no_ledger_can_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "ledger", tmp_path / "file" / "deep" / "ledger", tmp_path):
        with pytest.raises(AresError, match=r"cannot be used as a ledger.*paths\.ledger"):
            Ledger(place)


# --------------------------------------------------------------------------------------------------
# Commits, money, earlier versions
# --------------------------------------------------------------------------------------------------


def requests(count: int) -> list[Request]:
    return [Request("score", "t", "1", {"n": n}) for n in range(count)]


def test_many_askers_share_commits_and_none_uses_a_reply_before_its_own(path):
    other = None

    async def main(ledger):
        async def ask(request):
            reply = await ledger.ask(request, Sender(0.001))
            # As another process would see it: committed, not just written.
            found = other.execute("SELECT reply FROM requests WHERE hash = ?", (request.hash,)).fetchone()
            assert found == (reply.text,)

        await asyncio.gather(*(ask(request) for request in requests(200)))

    with Ledger(path) as ledger:
        commits = []
        ledger._db.now(lambda db: db.set_trace_callback(lambda sql: commits.append(sql)))
        other = sqlite3.connect(path)
        asyncio.run(main(ledger))
        ledger._db.now(lambda db: db.set_trace_callback(None))
    assert 0 < commits.count("COMMIT") < 100  # of 400 changes


def test_what_cannot_be_recorded_undoes_no_other_reply(path):
    async def send(request):
        await asyncio.sleep(0.05)  # all come at once, and share a commit
        return REPLY if request.payload["n"] else Reply("\ud83d", 1, 1, 0.5)

    async def main(ledger):
        return await asyncio.gather(*(ledger.ask(item, send) for item in requests(8)), return_exceptions=True)

    with Ledger(path) as ledger:
        broken, *others = asyncio.run(main(ledger))
    assert isinstance(broken, UnicodeEncodeError)
    assert others == [REPLY] * 7
    assert sum(row["reply"] == REPLY.text for row in rows(path)) == 7


def test_the_cap_holds_for_what_is_under_way(path):
    async def main():
        send = Sender(0.02)
        with Ledger(path, payer="run", poll=0.01, max_usd=0.05) as ledger:
            asked = [ledger.ask(request, send, worst=0.02) for request in requests(10)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            return found, send, ledger.spent()

    found, send, spent = asyncio.run(main())
    # Each costs 0.0125 and may cost 0.02: two at once, and none when 0.0375 are spent.
    assert send.sent == 3
    assert send.most == 2
    assert spent == pytest.approx(0.0375)
    assert sum("max_usd=0.05 is reached" in str(item) for item in found) == 7


def test_the_cap_is_each_payers_own_and_shared_by_its_processes(path):
    with Ledger(path, payer="a", max_usd=0.02) as first, Ledger(path, payer="a", max_usd=0.02) as second:
        asyncio.run(first.ask(requests(1)[0], Sender(), worst=0.02))
        with pytest.raises(AresError, match="max_usd"):
            asyncio.run(second.ask(requests(2)[1], Sender(), worst=0.02))
    with Ledger(path, payer="b", max_usd=0.02) as other:
        asyncio.run(other.ask(requests(2)[1], Sender(), worst=0.02))
        assert other.spent() == 0.0125


def test_a_failure_that_may_have_been_paid_for_stays_spent(path):
    from ares.teachers.messages import Unanswered

    async def fail(_, paid=True):
        raise Unanswered("no reply in time", paid=paid)

    with Ledger(path, payer="run", max_usd=1.0) as ledger:
        for paid, spent in ((False, 0.0), (True, 0.25)):
            with pytest.raises(Unanswered):
                asyncio.run(ledger.ask(REQUEST, lambda request, p=paid: fail(request, p), worst=0.25))
            assert ledger.spent() == spent


def test_a_killed_process_leaves_its_reservation_behind(path):
    with Ledger(path, payer="run", max_usd=1.0) as ledger:
        gone = "elsewhere/pid:[1]|7|x"
        ledger._db.now(lambda db: ledger._claim(db, REQUEST, gone, 0.25))
        assert ledger.spent() == 0.25


def test_what_is_lost_counts_against_a_cap_that_comes_later(path):
    with Ledger(path, payer="run") as ledger:
        ledger._db.now(lambda db: ledger._claim(db, requests(1)[0], "elsewhere/pid:[1]|7|x", 0.25))
    with Ledger(path, payer="run") as ledger:
        asyncio.run(ledger.reserve(0.125))
        asyncio.run(ledger.ask(REQUEST, Sender(), worst=0.5))
        asyncio.run(ledger.ask(requests(2)[1], Sender()))  # of unknown price
    with Ledger(path, payer="run", max_usd=1.0) as ledger:
        assert ledger.spent() == 0.25 + 0.125 + 2 * REPLY.usd


def test_what_a_step_has_paid_outlives_its_processes(path):
    asked = requests(3)
    hashes = [request.hash for request in asked]
    for first, last in ((0, 1), (0, 3)):
        with Ledger(path, step="a/score") as ledger:
            for request in asked[first:last]:
                asyncio.run(ledger.ask(request, Sender(), worst=0.5))
            assert ledger.paid(hashes) == last * REPLY.usd
            assert ledger.paid(hashes[:1]) == REPLY.usd
    with Ledger(path, step="b/score") as ledger:
        asyncio.run(ledger.ask(asked[0], Sender()))
        assert ledger.paid(hashes) == 0


@pytest.mark.parametrize(("version", "missing"), [(2, ("step", "lost")), (3, ("lost",))])
def test_a_ledger_of_a_later_version_is_brought_up_to_date(version, missing, path):
    Ledger(path).close()
    db = sqlite3.connect(path)
    for column in missing:
        db.execute(f"ALTER TABLE requests DROP COLUMN {column}")
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    with Ledger(path, step="a") as ledger:
        asyncio.run(ledger.ask(REQUEST, Sender()))
        assert ledger.paid([REQUEST.hash]) == REPLY.usd


def test_a_ledger_of_version_1_is_brought_up_to_date(path):
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.executescript(
        "CREATE TABLE requests (hash TEXT PRIMARY KEY, kind TEXT NOT NULL, teacher TEXT NOT NULL,"
        " prompt_version TEXT NOT NULL, payload TEXT NOT NULL, asked REAL NOT NULL, attempts INTEGER NOT NULL,"
        " owner TEXT, lease_until REAL NOT NULL, replied REAL, reply TEXT, input_tokens INTEGER,"
        " output_tokens INTEGER, usd REAL) STRICT; PRAGMA user_version = 1;"
    )
    db.execute(
        "INSERT INTO requests VALUES (?, 'score', 'claude', '1', '{}', 0, 1, NULL, 0, 1, 'old', 1, 1, 0.5)",
        (REQUEST.hash,),
    )
    db.commit()
    db.close()
    with Ledger(path) as ledger:
        assert asyncio.run(ledger.ask(REQUEST, Sender())).text == "old"
        assert asyncio.run(ledger.ask(requests(1)[0], Sender())) == REPLY


def test_a_full_disk_is_told(path):
    with Ledger(path) as ledger:
        ledger._db.now(lambda db: db.execute("PRAGMA query_only = ON"))
        with pytest.raises(AresError, match=r"cannot be written.*readonly"):
            asyncio.run(ledger.ask(REQUEST, Sender()))
