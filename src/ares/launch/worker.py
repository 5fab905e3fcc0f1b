"""One process of a step's group (`python -m ares.launch.worker <parent's id>`): runs the step that its task file names."""

import dataclasses
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ares.config.compose import to_config
from ares.config.schema import Config
from ares.launch.notices import quieten
from ares.ranks import EXCHANGE, gather, is_first, rank
from ares.steps.common.contract import StepContext, StepResult, function_of
from ares.storage.files import read_json, write_json
from ares.types import AresError


def main() -> None:
    """Runs the step; a mistake or error goes to the task's folder, where the parent finds it. Exit code 0, 1 or 2."""
    _end_with(int(sys.argv[1]))
    exchange = Path(os.environ[EXCHANGE])
    try:
        run_task(read_json(exchange / "task.json"), exchange)
    except AresError as error:
        _tell(exchange, str(error), mistake=True)
        raise SystemExit(2) from None
    except Exception:
        _tell(exchange, traceback.format_exc(), mistake=False)
        raise SystemExit(1) from None


def run_task(task: dict[str, Any], exchange: Path) -> None:
    """Runs the step of a task and, on rank 0, writes what it made to outputs.json."""
    import torch.distributed

    config = to_config(OmegaConf.create(task["config"]))
    _prepare_process(config)
    step = function_of(task["step"])
    described = task["run"]
    context = StepContext(
        Path(described["root"]),
        described["key"],
        Path(described["folder"]),
        described["round"],
        config,
        described["hash"],
        {name: Path(path) for name, path in described["inputs"].items()},
    )
    gather(None)  # imports take seconds; a group that meets within its timeout must start together
    made: StepResult = step(config, context)
    if is_first():
        files = {name: str(path) for name, path in made.files.items()}
        metrics = {name: float(value) for name, value in made.metrics.items()}
        write_json(
            exchange / "outputs.json", {**dataclasses.asdict(made), "files": files, "metrics": metrics}
        )
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _prepare_process(config: Config) -> None:
    import torch

    quieten()

    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    if config.trainer.accelerator != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def _tell(exchange: Path, message: str, *, mistake: bool) -> None:
    write_json(
        exchange / f"error-{rank()}.json",
        {"rank": rank(), "time": time.time(), "mistake": mistake, "message": message},
    )


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: a killed orchestrator leaves no rank behind."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    main()
