"""How processes that torchrun or srun started work on one run: they look at files in its folder.

One process leads: it orchestrates, and publishes each group of ranks that is to be started. The others follow: they
start their ranks when told to. Both sides make up a word and wait to see it repeated, so that what a killed run left
behind is never taken for an answer.
"""

import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ares.launch.group import Place, end_ranks, start_ranks, watch
from ares.storage.files import read_json, write_json
from ares.types import AresError

_POLL_SECONDS = 0.2
_MEET_SECONDS = 600.0
_BEAT_SECONDS = 10.0
# Network file systems show a change up to a minute late.
_SILENT_SECONDS = 180.0


class Leader:
    """The leading process's side; `folder` is the run's `.launch`."""

    def __init__(self, folder: Path, others: Sequence[int]) -> None:
        """Waits until all `others` have answered. Raises AresError where one does not."""
        self.folder, self.number, self.word = folder, 0, uuid.uuid4().hex
        self.answers: dict[str, str] = {}
        self.ended = threading.Event()
        if not others:
            return
        write_json(folder / "call.json", {"word": self.word})
        threading.Thread(target=self._beat, daemon=True).start()
        deadline = time.monotonic() + _MEET_SECONDS
        while missing := [other for other in others if not self._answered(other)]:
            if time.monotonic() > deadline:
                self.ended.set()
                raise AresError(
                    f"Ranks {missing} did not come to {folder} within {_MEET_SECONDS:.0f} s; start the same command on "
                    "every node, with paths.runs on a file system that they share."
                )
            time.sleep(_POLL_SECONDS)

    def _beat(self) -> None:
        while not self.ended.wait(_BEAT_SECONDS):
            (self.folder / "alive").touch()

    def _answered(self, other: int) -> bool:
        answer = _read(self.folder / f"answer-{other}.json")
        if answer is None or answer["to"] != self.word:
            return False
        self.answers[str(other)] = answer["word"]
        return True

    def announce(self, task: Mapping[str, Any]) -> None:
        """Tells the others to start their ranks of a group."""
        if self.answers:
            write_json(
                self.folder / f"{self.word}-{self.number}.json", {"words": self.answers, "task": dict(task)}
            )
            self.number += 1

    def failure(self, exchange: Path) -> str | None:
        """Whether a rank that another process started has died, and which."""
        found = sorted(exchange.glob("lost-*.json"))
        return read_json(found[0])["message"] if found else None

    def dismiss(self) -> None:
        """Tells the others that the run has ended."""
        self.ended.set()
        if self.answers:
            write_json(self.folder / f"{self.word}-{self.number}.json", {"words": self.answers, "task": None})


class _Pulse:
    """Whether the leader lives: it touches a file, however long it has nothing to say."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.limit = folder, folder / "alive", _MEET_SECONDS
        self.seen, self.last = self._time(), time.monotonic()

    def _time(self) -> int | None:
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return None

    def check(self) -> None:
        """Raises AresError where it has been silent for too long."""
        touched = self._time()
        if touched is not None and touched != self.seen:
            # The clock is this machine's: another's may differ.
            self.seen, self.last, self.limit = touched, time.monotonic(), _SILENT_SECONDS
        if time.monotonic() - self.last > self.limit:
            raise AresError(
                f"Rank 0 has given no sign of life in {self.folder} for {self.limit:.0f} s, so it has ended or does not "
                "see this folder; read what it said, then start the same command on every node again."
            )


def follow(folder: Path, place: Place) -> None:
    """Starts this place's ranks of each group that the leader announces, until it says that the run has ended.

    Raises what killed a rank of them, after having told the leader, and AresError where the leader is gone.
    """
    own, number, leader, pulse = uuid.uuid4().hex, 0, "", _Pulse(folder)
    while True:
        pulse.check()
        call = _read(folder / "call.json")
        if call is not None and call["word"] != leader:
            leader, number = call["word"], 0
            write_json(folder / f"answer-{place.first}.json", {"to": leader, "word": own})
        told = _read(folder / f"{leader}-{number}.json")
        if told is None or told["words"].get(str(place.first)) != own:
            time.sleep(_POLL_SECONDS)
            continue
        if told["task"] is None:
            return
        number += 1
        _take_part(place, told["task"], pulse)


def _take_part(place: Place, task: Mapping[str, Any], pulse: _Pulse) -> None:
    exchange = Path(task["exchange"])

    def stopped() -> str | None:
        pulse.check()
        return "another rank died" if (exchange / "stopped.json").exists() else None

    processes = start_ranks(place, task)
    try:
        watch(processes, place.first, exchange, stop=stopped)
    except Exception as error:
        write_json(exchange / f"lost-{place.first}.json", {"message": str(error)})
        raise
    finally:
        end_ranks(processes)


def _read(path: Path) -> Any:
    return read_json(path) if path.exists() else None
