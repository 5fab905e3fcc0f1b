"""One rank of a device step: `python -m ares.launch.worker <task folder>`, started by torch's elastic agent."""

import os
import stat
import sys
import threading
from pathlib import Path

from ares import interrupts
from ares.launch.task import leave_group, load, run_task, save
from ares.ranks import is_first
from ares.steps.common.tracking import finish_wandb
from ares.types import AresError

_STOP_SECONDS = 7.5  # less than what its agent waits


def main() -> None:
    """Runs the step; rank 0 saves the result. Errors are written to the agent's error file.

    Exit code 0, 1, 2 for a mistake, or 130 and 143 after a signal.
    """
    interrupts.install(None, limit=_STOP_SECONDS)
    _end_with_orchestrator()
    try:
        _run_recorded(Path(sys.argv[1]))
    except interrupts.Interrupted as stop:
        # Leaving the process group could wait for other ranks.
        os._exit(stop.exit_code)


def _run_recorded(folder: Path) -> None:
    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        with interrupts.reported():
            record(_run)(folder)
    except AresError:
        raise SystemExit(2) from None
    except Exception:  # recorded; the orchestrator prints it
        raise SystemExit(1) from None


def _run(folder: Path) -> None:
    task = load(folder / "task.pkl")
    interrupts.note(task.context.key)
    try:
        result = run_task(task)
    except interrupts.Interrupted:
        if is_first():
            save(interrupts.position(), folder / "stopped.pkl")
        raise
    if is_first():
        finish_wandb()  # the orchestrator continues the run
        save(result, folder / "result.pkl")
    leave_group()


def _end_with_orchestrator() -> None:
    """Ends this process when the pipe on stdin closes, which happens when the orchestrator ends or is killed."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
