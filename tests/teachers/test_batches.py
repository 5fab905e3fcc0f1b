"""Message Batches against the loopback server."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import urllib.request
from functools import partial
from types import SimpleNamespace

import pytest

from ares.teachers.ledger.batch_intents import record_intent, release, set_batch_id, unfinished
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.parsing import FeedbackError
from ares.teachers.services import batches
from ares.teachers.services.anthropic import AnthropicTeacher
from ares.teachers.services.retry import RetryPolicy
from ares.types import AresError
from tests.support.teacher import KEY

RATIONALES = [["Ice is cold.", "So yes."], ["No."]]
PRICES = {"claude-haiku-5-5": {"input": 1.0, "output": 5.0}}


def batched(server, ledger) -> AnthropicTeacher:
    teacher = AnthropicTeacher(
        model="claude-haiku-5-5", base_url=server.url, batch=True, prices=PRICES, ledger=ledger
    )
    teacher.batches.quiet, teacher.batches.poll = 0.1, 0.05
    teacher.client.policy = RetryPolicy(first=0.02)
    return teacher


def ask(server, path, problem, count=20):
    with Ledger(path, poll=0.02) as ledger:
        teacher = batched(server, ledger)

        async def main():
            jobs = (teacher.score(problem(str(n)), RATIONALES) for n in range(count))
            found = await asyncio.gather(*jobs)
            await teacher.close()
            return [result for results in found for result in results]

        return asyncio.run(main()), teacher


def call(server, method: str, path: str = "") -> dict:
    """What the server replies to a request about its batches."""
    request = urllib.request.Request(
        f"{server.url}/v1/messages/batches{path}",
        headers={"authorization": f"Bearer {server.key}"},
        method=method,
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def submitted(server) -> list[int]:
    """The sizes of the batches that the server was sent."""
    counts = [batch["request_counts"] for batch in call(server, "GET")["data"]]
    return [sum(count.values()) for count in reversed(counts)]


def test_requests_share_one_batch_at_half_the_price(loopback, problem, tmp_path):
    server = loopback(batch_seconds=0.2)
    found, teacher = ask(server, tmp_path / "ledger", problem)
    assert [len(result.scores) for result in found] == [2, 1] * 20
    assert submitted(server) == [20]
    tokens = teacher.usage.input_tokens + 5 * teacher.usage.output_tokens
    assert teacher.usage.usd == pytest.approx(tokens / 2e6)
    _, again = ask(server, tmp_path / "ledger", problem)
    assert again.usage.cached == 20
    assert submitted(server) == [20]


def test_batch_params_are_those_of_the_api(loopback, problem, tmp_path):
    server = loopback()
    with Ledger(tmp_path / "ledger") as ledger:
        teacher = batched(server, ledger)
        teacher.options = {"thinking": {"type": "disabled"}}
        asyncio.run(teacher.score(problem(), RATIONALES))
    [names] = server.batch_params
    assert names == ["max_tokens", "messages", "model", "output_config", "thinking"]


def test_interrupted_results_are_fetched_again(loopback, problem, tmp_path):
    server = loopback(results_reset=2)
    found, _ = ask(server, tmp_path / "ledger", problem)
    assert [len(result.scores) for result in found] == [2, 1] * 20
    assert submitted(server) == [20]


def test_batch_created_without_a_reply_is_found(loopback, problem, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "_UPLOAD", 0.5)
    server = loopback(batch_hold=[2.0], batch_seconds=4.0)
    with Ledger(tmp_path / "ledger", poll=0.02) as ledger:
        teacher = batched(server, ledger)
        teacher.client.policy = RetryPolicy(deadline=1.5, first=0.02)

        async def main():
            return await asyncio.gather(*(teacher.score(problem(str(n)), RATIONALES) for n in range(20)))

        found = asyncio.run(main())
    assert all(isinstance(result.scores, list) for results in found for result in results)
    assert submitted(server) == [20]


def test_failing_batch_api_stops_instead_of_quarantining(loopback, tmp_path):
    async def broken():
        raise ValueError("no batch")

    with Ledger(tmp_path / "ledger") as ledger:
        teacher = batched(loopback(), ledger)
        teacher.client.policy = RetryPolicy(first=0.001, attempts=2)
        with pytest.raises(AresError, match=r"Message Batches fail .*no batch"):
            asyncio.run(teacher.batches._retried(broken))


def test_errored_expired_and_missing_requests_go_into_another_batch(loopback, problem, tmp_path):
    server = loopback(batch_faults=0.5)
    found, teacher = ask(server, tmp_path / "ledger", problem, 40)
    sizes = submitted(server)
    assert sizes[0] == 40
    assert len(sizes) == 3
    assert 40 > sizes[1] > sizes[2] > 0
    unread = [result for result in found if isinstance(result.scores, FeedbackError)]
    assert all("no result in 3 batches" in result.scores.reason for result in unread)
    assert 0 < len(unread) < sizes[2] * 2
    assert teacher.usage.requests == 40 - len(unread) / 2


def test_refused_requests_are_quarantined(loopback, problem, tmp_path):
    server = loopback(batch_refused=f"no image, says {KEY}")
    found, _ = ask(server, tmp_path / "ledger", problem)
    assert {result.scores.reason for result in found} == {"no image, says <key>"}
    assert submitted(server) == [20]


def test_batches_are_split_at_the_limits(loopback, problem, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "MAX_REQUESTS", 8)
    server = loopback()
    ask(server, tmp_path / "ledger", problem)
    assert submitted(server) == [8, 8, 4]
    monkeypatch.setattr(batches, "MAX_REQUESTS", 100)
    monkeypatch.setattr(batches, "MAX_BYTES", 4000)
    server = loopback()
    ask(server, tmp_path / "other", partial(problem, hint="Eis schmölze – 氷は溶ける. " * 9))
    assert sum(submitted(server)) == 20
    assert max(server.batch_bytes) <= 4000
    assert max(submitted(server)) > 1


def test_limits_are_those_of_the_api():
    assert (batches.MAX_REQUESTS, batches.MAX_BYTES) == (100_000, 200_000_000)


def test_wrong_count_is_repaired_in_a_second_batch(loopback, problem, tmp_path):
    server = loopback(content_script=["wrong_count", "ok"])
    found, _ = ask(server, tmp_path / "ledger", problem)
    assert not any(isinstance(result.scores, FeedbackError) for result in found)
    assert submitted(server) == [20, 20]


CHILD = textwrap.dedent(
    """
    import asyncio, sys
    sys.path.insert(0, sys.argv[3])
    from ares.teachers.services.anthropic import AnthropicTeacher
    from ares.teachers.ledger.ledger import Ledger
    from ares.types import Problem

    blank = dict.fromkeys(("hint", "caption", "lecture", "subject", "topic", "category", "skill", "grade",
                           "task"), "")
    def problem(pid):
        return Problem(pid=pid, question=f"Is ice {pid} a solid?", choices=("yes", "no"), answer=0,
                       solution="Ice is a solid.", image=None, split="train", **blank)

    async def main():
        with Ledger(sys.argv[2]) as ledger:
            teacher = AnthropicTeacher(model="claude-haiku-5-5", base_url=sys.argv[1], batch=True, ledger=ledger)
            teacher.batches.quiet, teacher.batches.poll = 0.1, 0.05
            jobs = (teacher.score(problem(str(n)), [["Ice is cold.", "So yes."], ["No."]]) for n in range(20))
            await asyncio.gather(*jobs)

    asyncio.run(main())
    """
)


@pytest.mark.parametrize("moment", ["before its id is known", "while it runs"])
def test_batch_of_a_killed_process_is_found(moment, loopback, problem, tmp_path):
    hold = [5.0] if moment == "before its id is known" else []
    server = loopback(batch_seconds=2.0, batch_hold=hold)
    path = tmp_path / "ledger"
    child = subprocess.Popen([sys.executable, "-c", CHILD, server.url, str(path), "."], env=os.environ)
    deadline = time.monotonic() + 60
    while not submitted(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert submitted(server) == [20]
    found, teacher = ask(server, path, problem)
    assert [len(result.scores) for result in found] == [2, 1] * 20
    assert submitted(server) == [20]
    assert teacher.usage.requests == 20


def test_batch_without_an_id_is_identified_by_size_and_results(loopback, problem, tmp_path):
    looked, sinces = [], []

    def batch(name, size):
        counts = dict.fromkeys(("processing", "errored", "canceled", "expired"), 0)
        return SimpleNamespace(id=name, request_counts=SimpleNamespace(succeeded=size, **counts))

    with Ledger(tmp_path / "ledger") as ledger:
        teacher = batched(loopback(), ledger)
        asked = [teacher.score_requests(problem(str(n)), RATIONALES)[0][1] for n in range(2)]
        hashes = [request.hash for request in asked]
        for request in asked:
            ledger._db.now(partial(ledger._claim, request=request, owner="elsewhere/x|7|x", max_cost=0.0))

        async def recent(since):
            sinces.append(since)
            return [batch("others", 2), batch("larger", 3), batch("expired", 2), batch("ours", 2)]

        async def results(name):
            looked.append(name)
            held = ["another", "ones"] if name == "others" else hashes
            return [SimpleNamespace(custom_id=custom_id) for custom_id in held]

        teacher.batches._recent, teacher.batches._results = recent, results
        ledger._db.now(partial(record_intent, key="first", hashes=hashes))
        ledger._db.now(partial(set_batch_id, key="first", batch_id="expired"))
        ledger._db.now(partial(record_intent, key="again", hashes=hashes))
        assert asyncio.run(teacher.batches._find("again")) == "ours"
        assert ledger._db.now(partial(unfinished, hashes=hashes)) == [("again", "ours")]
        ledger._db.now(
            partial(release, batch_id="expired", hashes=hashes, lost=True)
        )  # which holds them no more
        assert ledger._db.now(partial(unfinished, hashes=hashes)) == [("again", "ours")]
    assert looked == ["others", "ours"]
    # The service's clock may differ from ours by ten minutes.
    assert sinces == [pytest.approx(time.time() - 600, abs=20)]


def leave_a_batch(server, path, problem) -> None:
    """Ends a process's work when it has submitted a batch."""
    named = "SELECT 1 FROM batches WHERE id NOTNULL"

    async def main():
        with Ledger(path) as ledger:
            teacher = batched(server, ledger)
            jobs = asyncio.gather(*(teacher.score(problem(str(n)), RATIONALES) for n in range(20)))
            while not ledger._db.now(lambda db: db.execute(named).fetchall()):
                await asyncio.sleep(0.05)
            jobs.cancel()
            await asyncio.gather(jobs, return_exceptions=True)
            await teacher.close()

    asyncio.run(main())


def alone(server, path, problem, pid):
    """The scores of one question, asked without a batch."""
    with Ledger(path) as ledger:
        teacher = AnthropicTeacher(
            model="claude-haiku-5-5", base_url=server.url, prices=PRICES, ledger=ledger
        )
        return asyncio.run(teacher.score(problem(pid), RATIONALES))


def test_request_in_an_open_batch_is_not_sent_alone(loopback, problem, tmp_path):
    server = loopback(batch_seconds=1.0)
    path = tmp_path / "ledger"
    leave_a_batch(server, path, problem)
    with pytest.raises(AresError, match=r"teacher\.batch=true"):
        alone(server, path, problem, "0")
    assert server.hashes == []
    assert len(alone(server, path, problem, "new")) == 2  # in no batch
    ask(server, path, problem)
    assert len(alone(server, path, problem, "0")) == 2
    assert len(server.hashes) == 1


def test_expired_batch_is_not_waited_for(loopback, problem, tmp_path):
    server = loopback(batch_seconds=60)
    path = tmp_path / "ledger"
    leave_a_batch(server, path, problem)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE batches SET created = created - 30 * 86400")
    assert len(alone(server, path, problem, "0")) == 2
    assert len(server.hashes) == 1


def test_request_released_from_its_batches_can_be_sent_alone(loopback, problem, tmp_path):
    server = loopback(batch_faults=0.5)
    found, _ = ask(server, tmp_path / "ledger", problem, 40)
    assert any(isinstance(result.scores, FeedbackError) for result in found)
    with Ledger(tmp_path / "ledger") as ledger:
        teacher = AnthropicTeacher(
            model="claude-haiku-5-5", base_url=server.url, prices=PRICES, ledger=ledger
        )

        async def main():
            return await asyncio.gather(*(teacher.score(problem(str(n)), RATIONALES) for n in range(40)))

        assert all(isinstance(result.scores, list) for part in asyncio.run(main()) for result in part)
    assert 0 < len(server.hashes) < 20


def test_intent_without_a_batch_is_submitted(loopback, problem, tmp_path):
    server = loopback()
    path = tmp_path / "ledger"
    away = loopback()
    away.close()
    with Ledger(path) as ledger:
        teacher = batched(away, ledger)
        teacher.client.policy = RetryPolicy(deadline=1.0, first=0.02)
        batches._UPLOAD, upload = 1.0, batches._UPLOAD

        async def main():
            jobs = (teacher.score(problem(str(n)), RATIONALES) for n in range(20))
            return await asyncio.gather(*jobs, return_exceptions=True)

        try:
            found = asyncio.run(main())
        finally:
            batches._UPLOAD = upload
    assert all(isinstance(item, Exception) for item in found)
    found, _ = ask(server, path, problem)
    assert [len(result.scores) for result in found] == [2, 1] * 20
    assert submitted(server) == [20]


ENDS = {"deleted": ("DELETE", ""), "archived": ("POST", "/archive"), "canceled": ("POST", "/cancel")}
SAID = {"deleted": "does not exist any more", "archived": "is archived", "canceled": "was canceled"}


def lost(path) -> list[int]:
    """How often each request in the ledger was lost."""
    with sqlite3.connect(path) as db:
        return [count for (count,) in db.execute("SELECT lost FROM requests")]


@pytest.mark.parametrize("end", ENDS)
def test_requests_of_a_lost_batch_are_asked_again(end, loopback, problem, tmp_path, capsys):
    server = loopback(batch_seconds=[60])
    path = tmp_path / "ledger"
    leave_a_batch(server, path, problem)
    method, what = ENDS[end]
    call(server, method, f"/msgbatch_0000{what}")
    with Ledger(path) as ledger:
        left = ledger.spent()  # which the process that submitted it has set aside
    found, teacher = ask(server, path, problem)
    with Ledger(path) as ledger:
        assert ledger.spent() == pytest.approx(left + teacher.usage.usd)
    assert left > 0
    assert [len(result.scores) for result in found] == [2, 1] * 20
    again = 10 if end == "canceled" else 20
    assert submitted(server)[-1] == again
    assert sorted(lost(path)) == [0] * (20 - again) + [1] * again
    assert teacher.usage.requests == 20
    [warning] = capsys.readouterr().err.splitlines()
    assert f"Message Batch msgbatch_0000 {SAID[end]}" in warning
    assert f"{again} of its requests are lost" in warning


def test_lost_batch_counts_against_the_cap(loopback, problem, tmp_path):
    server = loopback(batch_seconds=[60, 60, 60, 60])
    with Ledger(tmp_path / "ledger", poll=0.02, payer="run", max_usd=1.0) as ledger:
        teacher = batched(server, ledger)
        [(_, request)] = teacher.score_requests(problem("0"), RATIONALES)
        worst = teacher.max_cost_usd(request)
        ledger.max_usd = 2.5 * worst  # for one request and its repetition

        async def main():
            job = asyncio.create_task(teacher.score(problem("0"), RATIONALES))
            for number in range(2):
                while len(await asyncio.to_thread(submitted, server)) < 1:
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(call, server, "DELETE", f"/msgbatch_000{number}")
            return await job

        with pytest.raises(AresError, match="max_usd"):
            asyncio.run(main())
        assert ledger.spent() == pytest.approx(2 * worst)
