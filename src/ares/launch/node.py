"""Runs one node's ranks of a device step: `python -m ares.launch.node <task folder>`, once per node.

It is torchrun's agent for one task: the rendezvous of the nodes is a file in the task folder, and failures are written
there instead of to the terminal.
"""

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ares.launch.group import Failure, Severity
from ares.launch.task import Task, load, save

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

_GRACE_SECONDS = 3
_STOP_SECONDS = 8  # from SIGTERM to SIGKILL for ranks that save before they end
_TAIL_LINES = 30


def main() -> None:
    """Starts the ranks and waits for all of them. Exit code 1 if one failed."""
    folder = Path(sys.argv[1])
    # Slurm sends its signals to all processes; this one passes only the orchestrator's on.
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM"
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    from torch.distributed.elastic.multiprocessing import PContext, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    # If a rank fails, the agent closes the others with this method's default: 30 seconds from SIGTERM to SIGKILL.
    PContext.close.__defaults__ = (None, _GRACE_SECONDS)
    task: Task = load(folder / "task.pkl")
    # The ranks of a host share its processors; a value set by the user is kept.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // task.devices)))
    logging.disable()  # errors are in the failure file
    logs = Path(tempfile.mkdtemp(prefix="logs-", dir=folder))
    try:
        elastic_launch(_launch_config(task, folder, logs), sys.executable)(
            "-m", "ares.launch.worker", str(folder)
        )
    except SignalException:  # the orchestrator or srun stopped this node
        os._exit(1)  # another signal during a slower end would print a traceback
    except ChildFailedError as error:
        save(first_failure(error.failures, logs), folder / f"failure-{logs.name}.pkl")
        raise SystemExit(1) from None


def _launch_config(task: Task, folder: Path, logs: Path) -> "LaunchConfig":
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=task.nodes,
        max_nodes=task.nodes,
        nproc_per_node=task.devices,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint=str(folder / "rendezvous"),
        rdzv_configs={"store_type": "file", "keep_alive_interval": 60},  # each message makes the file longer
        local_addr="127.0.0.1" if task.nodes == 1 else None,
        max_restarts=0,
        shutdown_timeout=_STOP_SECONDS,
        logs_specs=DefaultLogsSpecs(
            str(logs), redirects=dict.fromkeys(range(1, task.devices), Std.ALL)
        ),  # the first rank keeps the terminal
    )


def first_failure(failures: Mapping[int, "ProcessFailure"], logs: Path) -> Failure:
    """The failure that caused the others: a mistake, otherwise a killed process, otherwise the earliest error."""
    earliest = min(failure.timestamp for failure in failures.values())
    found = []
    for rank, failure in failures.items():
        error = Path(failure.error_file)
        if error.exists():
            severity = Severity.MISTAKE if failure.exitcode == 2 else Severity.ERROR
            found.append(Failure(severity, error.stat().st_mtime, rank, _message(failure)))
        else:
            # After a failure the agent itself kills ranks that do not end in time.
            own = failure.exitcode != -signal.SIGTERM and failure.timestamp - earliest < _GRACE_SECONDS - 1
            severity = Severity.KILLED if failure.exitcode < 0 and own else Severity.ERROR
            found.append(Failure(severity, time.time(), rank, _death(failure, logs)))
    return min(found)


def _message(failure: "ProcessFailure") -> str:
    content = failure.error_file_data["message"]
    if failure.exitcode == 2:
        return content["message"].removeprefix("AresError: ")
    return content["extraInfo"]["py_callstack"]


def _death(failure: "ProcessFailure", logs: Path) -> str:
    code = failure.exitcode
    how = f"it was killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"
    lines = [
        line
        for log in sorted(logs.glob(f"*/attempt_0/{failure.local_rank}/std*.log"))
        for line in log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    ]
    return "\n".join([how + ("; its last output:" if lines else ""), *lines])


if __name__ == "__main__":
    main()
