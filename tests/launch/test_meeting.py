"""A leader and its followers find one another through files, whatever an earlier run left there."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ares.launch import meeting
from ares.launch.group import Place, StepFailed
from ares.launch.meeting import Leader, follow
from ares.storage.files import write_json
from ares.types import AresError


@pytest.fixture
def started(monkeypatch) -> list[tuple[int, Any]]:
    """The tasks whose ranks were started, by the first of these; nothing really starts."""
    found: list[tuple[int, Any]] = []

    def start_ranks(place: Place, task: Any) -> list[Any]:
        found.append((place.first, task["port"]))
        return []

    monkeypatch.setattr(meeting, "start_ranks", start_ranks)
    return found


def follower(folder: Path, first: int) -> threading.Thread:
    thread = threading.Thread(target=follow, args=(folder, Place(first=first, world=3)), daemon=True)
    thread.start()
    return thread


def failing_follower(folder: Path) -> tuple[threading.Thread, list[BaseException]]:
    """A follower in a thread, and the error that ended it."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            follow(folder, Place(first=1, world=2))
        except (AresError, StepFailed) as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, errors


def test_followers_take_part_in_every_task_until_they_are_dismissed(tmp_path: Path, started) -> None:
    threads = [follower(tmp_path, first) for first in (1, 2)]
    leader = Leader(tmp_path, (1, 2))
    for port in (7, 8):
        leader.announce({"exchange": str(tmp_path / str(port)), "port": port})
    leader.dismiss()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert sorted(started) == [(1, 7), (1, 8), (2, 7), (2, 8)]


def test_what_a_killed_run_left_is_not_taken_for_an_answer_nor_for_a_task(tmp_path: Path, started) -> None:
    # A leader that died after it had announced a task, and the answer that it had got.
    write_json(tmp_path / "call.json", {"word": "old"})
    write_json(tmp_path / "answer-1.json", {"to": "old", "word": "gone"})
    write_json(tmp_path / "old-0.json", {"words": {"1": "gone"}, "task": {"exchange": "", "port": 1}})
    thread = follower(tmp_path, 1)
    time.sleep(0.5)
    assert started == []
    leader = Leader(tmp_path, (1,))
    leader.announce({"exchange": str(tmp_path / "new"), "port": 2})
    leader.dismiss()
    thread.join(20)
    assert not thread.is_alive()
    assert started == [(1, 2)]


def test_a_rank_that_does_not_come_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(meeting, "_MEET_SECONDS", 0.3)
    with pytest.raises(AresError, match=r"Ranks \[1, 2\] did not come"):
        Leader(tmp_path, (1, 2))


def test_a_follower_that_loses_a_rank_tells_the_leader(tmp_path: Path, monkeypatch) -> None:
    def lose(*_: Any, **__: Any) -> None:
        raise StepFailed("rank 1 was killed by SIGKILL")

    monkeypatch.setattr(meeting, "start_ranks", lambda place, task: [])
    monkeypatch.setattr(meeting, "watch", lose)
    exchange = tmp_path / "exchange"
    exchange.mkdir()
    thread, errors = failing_follower(tmp_path)
    leader = Leader(tmp_path, (1,))
    assert leader.failure(exchange) is None
    leader.announce({"exchange": str(exchange), "port": 1})
    thread.join(20)
    assert "killed by SIGKILL" in str(errors[0])
    assert "killed by SIGKILL" in str(leader.failure(exchange))


def test_a_follower_ends_when_its_leader_is_gone_and_waits_for_one_that_is_idle(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(meeting, "_BEAT_SECONDS", 0.1)
    monkeypatch.setattr(meeting, "_SILENT_SECONDS", 2.0)
    thread, errors = failing_follower(tmp_path)
    leader = Leader(tmp_path, (1,))
    thread.join(5)  # nothing to do for longer than it may be silent
    assert thread.is_alive()
    leader.ended.set()  # as if killed
    thread.join(20)
    assert "no sign of life" in str(errors[0])


def test_a_follower_whose_leader_never_comes_ends(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(meeting, "_MEET_SECONDS", 0.5)
    write_json(tmp_path / "call.json", {"word": "old"})
    (tmp_path / "alive").touch()
    with pytest.raises(AresError, match="no sign of life"):
        follow(tmp_path, Place(first=1, world=2))
