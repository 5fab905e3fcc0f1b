"""A device step as it is sent to its ranks, and how a rank runs it."""

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ares.console import progress
from ares.launch.notices import quieten
from ares.ranks import barrier, is_first
from ares.steps.common.contract import StepContext, StepResult, function_of
from ares.storage.failures import disk_errors
from ares.storage.files import atomic_path


@dataclass(frozen=True)
class Task:
    """One step for `nodes` x `devices` ranks, `devices` on each node."""

    step: str
    context: StepContext
    nodes: int
    devices: int


def save(value: Any, path: Path) -> None:
    """Pickles a task or a step's result for another process of the same run."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps(value))


def load(path: Path) -> Any:
    """Reads what `save` wrote."""
    return pickle.loads(path.read_bytes())  # noqa: S301  # written by this run's orchestrator


def run_task(task: Task) -> StepResult:
    """Runs a step as one of its ranks; only rank 0's result is used."""
    import torch

    quieten()
    config = task.context.config
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    if config.trainer.accelerator != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    step = function_of(task.step)
    barrier()  # imports take seconds, and collectives have a timeout
    if is_first():
        progress.begin(task.context.title, task.context.key)
    with disk_errors():
        return step(config, task.context)


def leave_group() -> None:
    """Leaves the process group, if this process is in one."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
