"""Runs a device step on several ranks, which start and end with the step.

The orchestrator joins no process group and touches no GPU, so that no collective times out while it waits for the
Teacher, which may take hours.
"""

import contextlib
import enum
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from ares import interrupts
from ares.config.placeholders import filled
from ares.config.schema import Config
from ares.launch.task import Task, leave_group, load, run_task, save
from ares.ranks import gather, world_size
from ares.steps.common.contract import StepContext, StepResult
from ares.types import AresError

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 4.0
_STOP_SECONDS = 9.0  # for ranks that save before they end


class StepFailed(RuntimeError):
    """A rank of a step died; the message holds its error or its last output."""


class Severity(enum.IntEnum):
    """How a rank failed; of several failures the one with the lowest severity is reported."""

    MISTAKE = 0
    KILLED = 1
    ERROR = 2


class Failure(NamedTuple):
    """A rank's failure, `time` in seconds since the epoch; the smallest of several is the cause of the others."""

    severity: Severity
    time: float
    rank: int
    message: str


def run_in_group(config: Config, context: StepContext, step: str, *, alone: bool = False) -> StepResult:
    """Runs a step on `trainer.num_nodes` x `trainer.devices` ranks, or `alone` on one; returns when all have ended.

    If torchrun started this process, its group runs the step. Raises AresError if a rank raised one, otherwise
    StepFailed with the error of the rank that failed first; all ranks have ended either way.
    """
    nodes, devices = (1, 1) if alone else (config.trainer.num_nodes, config.trainer.devices)
    task = Task(step, context, nodes, devices)
    if world_size() > 1:
        return run_task(gather(task)[0])
    root = context.root / ".launch"
    shutil.rmtree(root, ignore_errors=True)  # leftovers of a killed run
    folder = root / uuid.uuid4().hex[:12]
    folder.mkdir(parents=True)
    save(task, folder / "task.pkl")
    _run_command(launch_command(config, folder, nodes, devices), folder)
    if not (folder / "result.pkl").exists():
        raise AresError(
            f"launch.command={config.launch.command} ran no rank; it must run `{{python}} -m ares.launch.node {{task}}` "
            "once per node and wait for it."
        )
    result: StepResult = load(folder / "result.pkl")
    shutil.rmtree(root, ignore_errors=True)
    return result


def launch_command(config: Config, folder: Path, nodes: int, devices: int) -> list[str]:
    """`launch.command` with its placeholders filled in. Raises AresError for an unknown placeholder."""
    values = {"python": sys.executable, "task": folder, "nodes": nodes, "devices": devices}
    return filled("launch.command", config.launch.command, values)


def _run_command(command: list[str], folder: Path) -> None:
    # Ranks end when their stdin closes, which happens when this process ends. Nothing is written to it.
    # In a session of their own Ctrl-C does not reach them: this process asks them to end.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        while process.poll() is None and not any(folder.glob("failure-*.pkl")):
            time.sleep(_POLL_SECONDS)
        if process.poll() == 0:
            return
        _wait(process, _GRACE_SECONDS)
        raise _error(command, process.poll(), folder)
    except interrupts.Interrupted:
        process.terminate()
        _wait(process, _STOP_SECONDS)
        if (stopped := folder / "stopped.pkl").exists():
            interrupts.note(load(stopped))
        raise
    finally:
        _end(process)


def _error(command: list[str], code: int | None, folder: Path) -> Exception:
    failures: list[Failure] = [load(path) for path in folder.glob("failure-*.pkl")]
    if not failures:
        return StepFailed(f"`{shlex.join(command)}` ended with exit code {code}; see its output above")
    first = min(failures)
    if first.severity == Severity.MISTAKE:
        return AresError(first.message)
    return StepFailed(f"rank {first.rank} died: {first.message}")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Terminates a command that still runs, and kills it if it does not end; its ranks end when stdin closes."""
    process.terminate()
    assert process.stdin is not None
    process.stdin.close()
    _wait(process, _GRACE_SECONDS)
    process.kill()
    process.wait()


def follow() -> None:
    """Runs each step that rank 0 runs, as another rank of the user's torchrun, until `dismiss`."""
    while (task := gather(None)[0]) is not None:
        run_task(task)
    leave_group()


def dismiss() -> None:
    """Ends `follow` on the other ranks; does nothing outside a group."""
    if world_size() > 1:
        gather(None)
        leave_group()
