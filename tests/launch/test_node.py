"""Which of a node's failures caused the others, and what is reported about it."""

import json
import os
import signal
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from ares.launch.group import Severity
from ares.launch.node import first_failure


def failure(folder: Path, rank: int, code: int, error: str = "", at: float = 0.0) -> ProcessFailure:
    """A rank's failure as torch's agent reports it, with an error file where it recorded an error."""
    path = folder / f"error-{rank}.json"
    if error:
        extra = {"py_callstack": f"Traceback\n{error}", "timestamp": str(int(at))}
        path.write_text(json.dumps({"message": {"message": error, "extraInfo": extra}}))
        os.utime(path, (at, at))
    found = ProcessFailure(local_rank=rank, pid=1, exitcode=code, error_file=str(path))
    found.timestamp = int(at)
    return found


def test_the_earliest_error_is_reported_with_its_traceback(tmp_path: Path) -> None:
    failures = {
        0: failure(tmp_path, 0, 1, "RuntimeError: lost peer", at=7.9),
        1: failure(tmp_path, 1, 1, "ValueError: not finite", at=7.2),
        2: failure(tmp_path, 2, -signal.SIGTERM, at=8),
    }
    found = first_failure(failures, tmp_path)
    assert (found.rank, found.message) == (1, "Traceback\nValueError: not finite")


def test_a_mistake_is_reported_in_its_own_words(tmp_path: Path) -> None:
    failures = {
        0: failure(tmp_path, 0, 1, "RuntimeError: lost peer", at=1.0),
        1: failure(tmp_path, 1, 2, "AresError: no such data", at=2.0),
    }
    found = first_failure(failures, tmp_path)
    assert (found.severity, found.message) == (Severity.MISTAKE, "no such data")


def test_a_killed_rank_is_the_cause_of_its_peers_errors(tmp_path: Path) -> None:
    failures = {
        0: failure(tmp_path, 0, 1, "RuntimeError: lost peer", at=1.0),
        1: failure(tmp_path, 1, -signal.SIGKILL, at=1.0),
    }
    found = first_failure(failures, tmp_path)
    assert (found.severity, found.rank) == (Severity.KILLED, 1)
    assert found.message == "it was killed by SIGKILL"


def test_a_rank_that_the_agent_had_to_kill_is_not_the_cause(tmp_path: Path) -> None:
    failures = {
        0: failure(tmp_path, 0, -signal.SIGKILL, at=4.0),
        1: failure(tmp_path, 1, 1, "ValueError: not finite", at=1.0),
    }
    assert first_failure(failures, tmp_path).rank == 1


@pytest.mark.parametrize("code", [3, -signal.SIGSEGV])
def test_a_death_without_an_error_reports_the_end_of_the_log(tmp_path: Path, code: int) -> None:
    logs = tmp_path / "run_x" / "attempt_0" / "1"
    logs.mkdir(parents=True)
    (logs / "stderr.log").write_text("".join(f"line {number}\n" for number in range(100)))
    message = first_failure({1: failure(tmp_path, 1, code, at=1.0)}, tmp_path).message
    assert ("exit code 3" if code == 3 else "SIGSEGV") in message
    assert message.endswith("line 99")
    assert "line 5\n" not in message
