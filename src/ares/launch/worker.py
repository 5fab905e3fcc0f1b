"""One rank of a device step: `python -m ares.launch.worker <task folder>`, started by torch's elastic agent."""

import os
import stat
import sys
import threading
from pathlib import Path

from ares.launch.task import leave_group, load, run_task, save
from ares.ranks import is_first
from ares.types import AresError


def main() -> None:
    """Runs the step; rank 0 saves the result. Errors are written to the agent's error file. Exit code 0, 1 or 2."""
    from torch.distributed.elastic.multiprocessing.errors import record

    _end_with_orchestrator()
    try:
        record(_run)(Path(sys.argv[1]))
    except AresError:
        raise SystemExit(2) from None
    except Exception:  # recorded; the orchestrator prints it
        raise SystemExit(1) from None


def _run(folder: Path) -> None:
    result = run_task(load(folder / "task.pkl"))
    if is_first():
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
