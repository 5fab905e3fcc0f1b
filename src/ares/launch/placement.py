"""Whether this machine has the devices that are asked for, and what to type where it has not."""

import os
import shlex
from dataclasses import replace

from ares.config.commands import is_sweep, typed
from ares.config.schema import Config
from ares.config.validation import validate
from ares.steps.common.contract import specs_of
from ares.types import AresError


def visible_gpus() -> int:
    """The number of CUDA devices this process may use; counted without a CUDA context."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.device_count()


def check_devices(config: Config) -> None:
    """Raises AresError, with the command that works here, where more devices are asked for than can be used.

    A stage without a step that uses them may ask for any.
    """
    asked = config.trainer.devices
    needed = any(spec.runs_on == "device" for spec in specs_of(config.stage.steps).values())
    if asked == 1 or config.trainer.accelerator == "cpu" or not needed:
        return
    gpus = visible_gpus()
    if gpus < asked:
        there = f"{gpus} GPU{'s' if gpus != 1 else ''}"
        raise AresError(
            f"trainer.devices={asked} asks for {asked} GPUs and {there} can be seen; run `{command_for(config, gpus)}` "
            "on this machine."
        )


def command_for(config: Config, gpus: int) -> str:
    """The command line as it was given, but with as many devices, of `gpus`, as its batches can be shared by."""
    given = typed() or [
        f"stage={config.stage.name}",
        f"data={config.data.name}",
        f"model={config.model.name}",
        f"teacher={config.teacher.name}",
        f"run={config.run}",
    ]
    replaced = ["trainer.devices=", "trainer.accelerator="]
    devices = next((count for count in range(gpus, 1, -1) if _fits(config, count)), 1)
    if devices == 1:
        changes = ["strategy=single", "trainer.devices=1", *([] if gpus else ["trainer.accelerator=cpu"])]
        replaced.append("strategy=")
    else:
        changes = [f"trainer.devices={devices}"]
    kept = [text for text in given if not text.startswith(tuple(replaced))]
    flags = ["-m"] if is_sweep() else []
    return shlex.join(["python", "train.py", *flags, *kept, *changes])


def _fits(config: Config, devices: int) -> bool:
    try:
        validate(replace(config, trainer=replace(config.trainer, devices=devices)))
    except AresError:
        return False
    return True
