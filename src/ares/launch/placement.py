"""Checks that a stage's device steps can run with the available processes, nodes and GPUs; suggests a command if not."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from ares.config.commands import command
from ares.config.schema import Config, LaunchConfig
from ares.config.validation import validate
from ares.launch.group import launch_command
from ares.ranks import world_size
from ares.steps.common.contract import specs_of
from ares.types import AresError

_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def _device_steps(config: Config) -> list[str]:
    return [name for name, spec in specs_of(config.stage.steps).items() if spec.runs_on == "device"]


def _starts_here(config: Config) -> bool:
    """Whether `launch.command` is the one that starts ranks on this machine."""
    return config.launch.name == "local" and config.launch.command == LaunchConfig().command


def has_driver() -> bool:
    """Whether a GPU's driver is loaded (NVIDIA's, also under Windows, or AMD's); True where that is not known."""
    return sys.platform != "linux" or any(map(os.path.exists, _DRIVERS))


def visible_gpus() -> int:
    """The number of CUDA devices that this process may use, counted without a CUDA context."""
    if not has_driver():
        return 0
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.device_count()


def processes_started() -> int:
    """The number of processes of this command that torchrun or srun started."""
    # srun sets SLURM_STEP_NUM_TASKS; a batch script does not have it.
    return max(world_size(), int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)))


def check_processes(config: Config) -> None:
    """Raises AresError, with the command that works, if the stage cannot run in the processes that were started.

    A single process starts the ranks of each device step itself. Several processes of the user's own torchrun are
    the ranks; then the stage may have device steps only.
    """
    devices, nodes = config.trainer.devices, config.trainer.num_nodes
    started, device_steps = processes_started(), _device_steps(config)
    if started > 1:
        _check_started(config, started, device_steps)
    elif nodes > 1 and _starts_here(config) and device_steps:
        raise AresError(
            f"trainer.num_nodes={nodes}: launch=local starts ranks on this machine only; run "
            f"`{command(launch='srun')}` in a Slurm allocation, or set launch.command."
        )
    elif devices * nodes > 1 and device_steps:
        program = next(iter(launch_command(config, Path(), nodes, devices)), "")
        if shutil.which(program) is None:
            raise AresError(
                f"launch.command starts {program!r}, which is not on the PATH; install it, or use one machine: "
                f"`{command(launch='local', **{'trainer.num_nodes': '1'})}`."
            )


def _check_started(config: Config, started: int, device_steps: list[str]) -> None:
    devices, nodes = config.trainer.devices, config.trainer.num_nodes
    works = command(**({"launch": "srun"} if nodes > 1 else {}))
    if world_size() == 1:
        raise AresError(
            f"srun started {started} processes of train.py, but one process starts the ranks itself; run `{works}` once "
            "in the allocation."
        )
    if started != devices * nodes:
        raise AresError(
            f"{started} processes were started, but trainer.devices={devices} x trainer.num_nodes={nodes} is "
            f"{devices * nodes}; start {devices * nodes}, or run `{works}`, which starts them itself."
        )
    host = [text for text in config.stage.steps if text.rpartition("/")[2] not in device_steps]
    if host:
        raise AresError(
            f"torchrun can run a stage of device steps, but {', '.join(host)} of "
            f"stage={config.stage.name} runs in one process; run `{works}`, which starts the ranks itself."
        )


def check_devices(config: Config) -> None:
    """Raises AresError, with the command that works here, if the configuration needs more GPUs than this machine has.

    Stages without a device step, and stages whose ranks run on other machines, are not checked.
    """
    devices, asked = config.trainer.devices, config.trainer.accelerator in ("gpu", "cuda")
    if not (devices > 1 or asked) or config.trainer.accelerator == "cpu" or not _starts_here(config):
        return
    if _device_steps(config) and (gpus := visible_gpus()) < devices:
        needs = f"trainer.devices={devices} needs {devices} GPUs"
        if devices == 1:
            needs = f"trainer.accelerator={config.trainer.accelerator} needs a GPU"
        raise AresError(
            f"{needs}, but {gpus or 'none'} can be seen; run `{command_for(config, gpus)}` on this machine."
        )


def command_for(config: Config, gpus: int) -> str:
    """The command that was typed, with as many devices, at most `gpus`, as its batches can be divided between."""
    devices = next((count for count in range(gpus, 1, -1) if _fits(config, count)), 1)
    if devices > 1:
        return command(**{"trainer.devices": str(devices)})
    changes = {"strategy": "single", "trainer.devices": "1"}
    return command(**changes, **({} if gpus else {"trainer.accelerator": "cpu"}))


def _fits(config: Config, devices: int) -> bool:
    try:
        validate(replace(config, trainer=replace(config.trainer, devices=devices)))
    except AresError:
        return False
    return True
