import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ares.teachers.base import Reply, Request
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


def test_recorded_reply_is_not_paid_for_again(path):
    send = Sender()
    with Ledger(path) as ledger:
        assert asyncio.run(ledger.ask(REQUEST, send)) == REPLY
    with Ledger(path) as ledger:
        again = asyncio.run(ledger.ask(REQUEST, send))
        assert ledger.known([REQUEST.hash, "0" * 64]) == {REQUEST.hash}
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
        found = asyncio.run(ledger.ask(REQUEST, send))
    assert found.cached
    assert found.usd is None


def test_intent_is_committed_before_sending_and_reply_before_use(path):
    async def send(_):
        (row,) = rows(path)
        assert row["reply"] is None
        assert row["lease_until"] > time.time()
        return REPLY

    with Ledger(path) as ledger:
        asyncio.run(ledger.ask(REQUEST, send))
        assert rows(path)[0]["reply"] == REPLY.text


def test_concurrent_callers_send_once(path):
    async def main():
        send = Sender(0.1)
        with Ledger(path, poll=0.02) as ledger:
            replies = await asyncio.gather(*(ledger.ask(REQUEST, send) for _ in range(5)))
        assert [reply.text for reply in replies] == [REPLY.text] * 5
        assert sorted(reply.cached for reply in replies) == [False] + [True] * 4
        assert send.sent == 1

    asyncio.run(main())


def test_failed_request_can_be_repeated(path):
    send = Sender(failures=1)
    with Ledger(path) as ledger:
        with pytest.raises(ConnectionError):
            asyncio.run(ledger.ask(REQUEST, send))
        started = time.monotonic()
        assert asyncio.run(ledger.ask(REQUEST, send)) == REPLY
    assert time.monotonic() - started < 30  # not a full lease
    assert rows(path)[0]["attempts"] == 2


def test_cancelled_request_can_be_repeated(path):
    async def main():
        with Ledger(path) as ledger:
            task = asyncio.create_task(ledger.ask(REQUEST, Sender(60)))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.wait_for(ledger.ask(REQUEST, Sender()), 30) == REPLY

    asyncio.run(main())


def test_slow_request_keeps_its_lease(path):
    async def send(_):
        first = rows(path)[0]["lease_until"]
        while rows(path)[0]["lease_until"] <= first:
            await asyncio.sleep(0.02)
        return REPLY

    with Ledger(path, lease=0.3) as ledger:
        asyncio.run(asyncio.wait_for(ledger.ask(REQUEST, send), 60))


def test_expired_lease_of_another_host_is_taken_over(path):
    with Ledger(path, lease=0.3, poll=0.02) as ledger:
        ledger._db.now(lambda db: ledger._claim(db, REQUEST, "elsewhere/pid:[1]|7|x", 0.0))
        started = time.monotonic()
        assert asyncio.run(ledger.ask(REQUEST, Sender())) == REPLY
    assert 0.2 < time.monotonic() - started < 30
    assert rows(path)[0]["attempts"] == 2


def test_claim_after_lease_expiry_is_not_sent(path):
    def asked_elsewhere() -> Reply:
        with Ledger(path, payer="b") as other:
            return asyncio.run(other.ask(REQUEST, Sender()))

    async def main():
        send = Sender()
        with Ledger(path, lease=0.2, poll=0.02, payer="a") as busy, ThreadPoolExecutor() as pool:
            asked = asyncio.create_task(busy.ask(REQUEST, send, max_cost=0.5))
            await asyncio.sleep(0)
            time.sleep(0.4)  # blocks the event loop
            assert pool.submit(asked_elsewhere).result() == REPLY  # and until this is done
            assert (await asked).cached
            assert busy.spent() == 0
        assert send.sent == 0

    asyncio.run(main())


def test_late_claim_is_renewed_and_sent(path):
    async def main():
        send = Sender()
        with Ledger(path, lease=0.2, poll=0.02, payer="a") as busy:
            asked = asyncio.create_task(busy.ask(REQUEST, send, max_cost=0.5))
            await asyncio.sleep(0)
            time.sleep(0.4)
            assert await asked == REPLY
            assert busy.spent() == pytest.approx(REPLY.usd)

    asyncio.run(main())


def test_former_owner_does_not_release_a_new_lease(path):
    with Ledger(path) as ledger:
        ledger._db.now(lambda db: ledger._claim(db, REQUEST, "elsewhere/pid:[1]|7|x", 0.0))
        ledger._db.now(lambda db: ledger._release(REQUEST.hash, "elsewhere/pid:[1]|6|y", 0.0, db))
    (row,) = rows(path)
    assert row["owner"] == "elsewhere/pid:[1]|7|x"
    assert row["lease_until"] > time.time()


def test_step_that_takes_over_pays(path):
    with Ledger(path, step="a/score", lease=0.0) as ledger:
        ledger._db.now(lambda db: ledger._claim(db, REQUEST, "elsewhere/pid:[1]|7|x", 0.0))
    with Ledger(path, step="b/score", poll=0.02) as ledger:
        asyncio.run(ledger.ask(REQUEST, Sender()))
        assert ledger.paid([REQUEST.hash]) == (1, REPLY.usd)


def test_commits_are_synchronized_to_disk(path):
    with Ledger(path) as ledger:
        assert ledger._db.now(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)  # FULL


def test_first_recorded_reply_is_kept(path):
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


def test_crash_between_intent_and_reply(path, tmp_path):
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
    with Ledger(path) as ledger:  # no wait for a dead process on this host
        request = Request("score", "t", "1", {"n": 0})
        assert request.hash == row["hash"]
        assert asyncio.run(ledger.ask(request, Sender())) == REPLY
    assert time.monotonic() - started < 30
    assert rows(path)[0]["attempts"] == 2


def test_journal_is_safe_on_network_file_systems(path):
    with Ledger(path) as ledger:  # WAL needs memory that several hosts do not share
        assert ledger._db.now(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("delete",)


def test_files_that_are_not_a_ledger_of_this_version_are_refused(tmp_path):
    (tmp_path / "text").write_text("no database, and long enough to be looked at " * 40)
    with pytest.raises(AresError, match=r"paths\.ledger"):
        Ledger(tmp_path / "text")
    for version in (1, 99):
        db = sqlite3.connect(tmp_path / str(version))
        db.execute(f"PRAGMA user_version = {version}")
        db.close()
        with pytest.raises(AresError, match=rf"version {version}, .*paths\.ledger"):
            Ledger(tmp_path / str(version))


def test_impossible_path_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "ledger", tmp_path / "file" / "deep" / "ledger", tmp_path):
        with pytest.raises(AresError, match=r"cannot be used as a ledger.*paths\.ledger"):
            Ledger(place)


# --------------------------------------------------------------------------------------------------
# Commits and money
# --------------------------------------------------------------------------------------------------


def requests(count: int) -> list[Request]:
    return [Request("score", "t", "1", {"n": n}) for n in range(count)]


def test_group_commit_returns_each_reply_after_its_commit(path):
    other = None

    async def main(ledger):
        async def ask(request):
            reply = await ledger.ask(request, Sender(0.001))
            # Visible to another connection: committed, not just written.
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


def test_failed_record_does_not_undo_others_in_the_same_commit(path):
    async def send(request):
        await asyncio.sleep(0.05)  # all arrive together and share a commit
        return REPLY if request.payload["n"] else Reply("\ud83d", 1, 1, 0.5)

    async def main(ledger):
        return await asyncio.gather(*(ledger.ask(item, send) for item in requests(8)), return_exceptions=True)

    with Ledger(path) as ledger:
        broken, *others = asyncio.run(main(ledger))
    assert isinstance(broken, UnicodeEncodeError)
    assert others == [REPLY] * 7
    assert sum(row["reply"] == REPLY.text for row in rows(path)) == 7


def test_cap_includes_open_requests(path):
    async def main():
        send = Sender(0.3)
        with Ledger(path, payer="run", poll=0.01, max_usd=0.05) as ledger:
            asked = [ledger.ask(request, send, max_cost=0.02) for request in requests(10)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            return found, send, ledger.spent()

    found, send, spent = asyncio.run(main())
    # Each costs 0.0125 and may cost 0.02: two at once, and none when 0.0375 are spent.
    assert send.sent == 3
    assert send.most == 2
    assert spent == pytest.approx(0.0375)
    assert sum("max_usd=0.05 is reached" in str(item) for item in found) == 7


def test_cap_is_per_payer_across_processes(path):
    with Ledger(path, payer="a", max_usd=0.02) as first, Ledger(path, payer="a", max_usd=0.02) as second:
        asyncio.run(first.ask(requests(1)[0], Sender(), max_cost=0.02))
        with pytest.raises(AresError, match="max_usd"):
            asyncio.run(second.ask(requests(2)[1], Sender(), max_cost=0.02))
    with Ledger(path, payer="b", max_usd=0.02) as other:
        asyncio.run(other.ask(requests(2)[1], Sender(), max_cost=0.02))
        assert other.spent() == 0.0125


def test_failure_that_may_have_been_paid_for_counts_as_spent(path):
    from ares.teachers.messages import Unanswered

    async def fail(_, paid=True):
        raise Unanswered("no reply in time", paid=paid)

    with Ledger(path, payer="run", max_usd=1.0) as ledger:
        for paid, spent in ((False, 0.0), (True, 0.25)):
            with pytest.raises(Unanswered):
                asyncio.run(ledger.ask(REQUEST, lambda request, p=paid: fail(request, p), max_cost=0.25))
            assert ledger.spent() == spent


def test_reservation_of_a_killed_process_stays(path):
    with Ledger(path, payer="run", max_usd=1.0) as ledger:
        gone = "elsewhere/pid:[1]|7|x"
        ledger._db.now(lambda db: ledger._claim(db, REQUEST, gone, 0.25))
        assert ledger.spent() == 0.25


def test_lost_requests_count_against_a_later_cap(path):
    with Ledger(path, payer="run") as ledger:
        ledger._db.now(lambda db: ledger._claim(db, requests(1)[0], "elsewhere/pid:[1]|7|x", 0.25))
    with Ledger(path, payer="run") as ledger:
        asyncio.run(ledger.reserve(0.125))
        asyncio.run(ledger.ask(REQUEST, Sender(), max_cost=0.5))
        asyncio.run(ledger.ask(requests(2)[1], Sender()))  # of unknown price
    with Ledger(path, payer="run", max_usd=1.0) as ledger:
        assert ledger.spent() == 0.25 + 0.125 + 2 * REPLY.usd


def test_money_paid_by_a_step_is_recorded_across_processes(path):
    asked = requests(3)
    hashes = [request.hash for request in asked]
    for first, last in ((0, 1), (0, 3)):
        with Ledger(path, step="a/score") as ledger:
            for request in asked[first:last]:
                asyncio.run(ledger.ask(request, Sender(), max_cost=0.5))
            assert ledger.paid(hashes) == (last, last * REPLY.usd)
            assert ledger.paid(hashes[:1]) == (1, REPLY.usd)
    with Ledger(path, step="b/score") as ledger:
        asyncio.run(ledger.ask(asked[0], Sender()))
        assert ledger.paid(hashes) == (0, 0)


def test_unwritable_file_is_reported(path):
    with Ledger(path) as ledger:
        ledger._db.now(lambda db: db.execute("PRAGMA query_only = ON"))
        with pytest.raises(AresError, match=r"cannot be written.*readonly"):
            asyncio.run(ledger.ask(REQUEST, Sender()))


def test_only_the_owner_may_read_the_ledger(tmp_path):
    for path in (tmp_path / "new.sqlite", tmp_path / "older.sqlite"):
        if path.stem == "older":
            path.touch(mode=0o644)
        with Ledger(path):
            assert path.stat().st_mode & 0o777 == 0o600
