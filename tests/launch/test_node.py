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


def test_earliest_error_is_reported_with_traceback(tmp_path: Path) -> None:
    failures = {
        0: failure(tmp_path, 0, 1, "RuntimeError: lost peer", at=7.9),
        1: failure(tmp_path, 1, 1, "ValueError: not finite", at=7.2),
        2: failure(tmp_path, 2, -signal.SIGTERM, at=8),
    }
    found = first_failure(failures, tmp_path)
    assert (found.rank, found.message) == (1, "Traceback\nValueError: not finite")


def test_mistake_is_reported_without_traceback(tmp_path: Path) -> None:
    failures = {
        0: failure(tmp_path, 0, 1, "RuntimeError: lost peer", at=1.0),
        1: failure(tmp_path, 1, 2, "AresError: no such data", at=2.0),
    }
    found = first_failure(failures, tmp_path)
    assert (found.severity, found.message) == (Severity.MISTAKE, "no such data")


def test_killed_rank_causes_errors_of_its_peers(tmp_path: Path) -> None:
    failures = {
        0: failure(tmp_path, 0, 1, "RuntimeError: lost peer", at=1.0),
        1: failure(tmp_path, 1, -signal.SIGKILL, at=1.0),
    }
    found = first_failure(failures, tmp_path)
    assert (found.severity, found.rank) == (Severity.KILLED, 1)
    assert found.message == "it was killed by SIGKILL"


def test_rank_killed_by_the_agent_is_not_the_cause(tmp_path: Path) -> None:
    failures = {
        0: failure(tmp_path, 0, -signal.SIGKILL, at=4.0),
        1: failure(tmp_path, 1, 1, "ValueError: not finite", at=1.0),
    }
    assert first_failure(failures, tmp_path).rank == 1


@pytest.mark.parametrize("code", [3, -signal.SIGSEGV])
def test_death_without_error_reports_log_tail(tmp_path: Path, code: int) -> None:
    logs = tmp_path / "run_x" / "attempt_0" / "1"
    logs.mkdir(parents=True)
    (logs / "stderr.log").write_text("".join(f"line {number}\n" for number in range(100)))
    message = first_failure({1: failure(tmp_path, 1, code, at=1.0)}, tmp_path).message
    assert ("exit code 3" if code == 3 else "SIGSEGV") in message
    assert message.endswith("line 99")
    assert "line 5\n" not in message
