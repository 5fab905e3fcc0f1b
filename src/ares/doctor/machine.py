"""The machine against the requirements of the run."""

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ares.config.commands import command
from ares.config.schema import Config
from ares.doctor.findings import Finding
from ares.doctor.memory import gpus, machine_memory
from ares.doctor.requirements import GIB, disk_of, model_of
from ares.doctor.teacher import asks_teacher
from ares.steps.common.asking import teacher_class
from ares.steps.common.contract import specs_of
from ares.teachers.ledger.database import unusable

_SHOWN = ("torch", "transformers", "pytorch-lightning", "peft", "timm")


def check_environment() -> Iterator[Finding]:
    """The interpreter and the packages against the project's requirements."""
    from packaging.requirements import Requirement

    wrong = []
    for line in requires("ares") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} {found} is not {wanted.specifier}")
    shown = ", ".join(f"{name} {version(name)}" for name in _SHOWN if f"{name} is missing" not in wrong)
    yield Finding("ok", "environment", f"Python {platform.python_version()}, {shown}")
    if wrong:
        remedy = "install the project again: pip install -e ."
        yield Finding("problem", "environment", "; ".join(wrong), remedy)


def check_devices(config: Config, steps: Sequence[str]) -> Iterator[Finding]:
    """The visible GPUs against the requested ones."""
    names = [f"{name} ({memory / GIB:.0f} GiB)" for name, memory in gpus()]
    seen = (
        ", ".join(names) or f"none; {os.cpu_count()} processors, {machine_memory() / GIB:.0f} GiB of memory"
    )
    asked = config.trainer.devices
    device_steps = [name for name, spec in specs_of(steps).items() if spec.runs_on == "device"]
    usable = 0 if config.trainer.accelerator == "cpu" else len(names)
    if device_steps and device_steps != ["prepare"] and asked > max(1, usable):
        fewer = {"strategy": "single"} | ({} if usable else {"trainer.accelerator": "cpu"})
        text = f"{seen}; trainer.devices={asked} asks for {asked}"
        yield Finding("problem", "GPUs", text, command(config.doctor.stage, **fewer))
    elif device_steps and not usable and config.model.init is not None:
        text = f"{seen}; {', '.join(device_steps)} on processors take days"
        yield Finding("note", "GPUs", text, "use a machine with a GPU")
    else:
        yield Finding("ok", "GPUs", seen)


def check_keys(config: Config, steps: Sequence[str]) -> Iterator[Finding]:
    """Which keys the environment has; their values are never shown. `check_teacher` reports a missing one."""
    teacher = teacher_class(config).key_variable if asks_teacher(steps) else ""
    names = [name for name in (teacher, "WANDB_API_KEY", "HF_TOKEN") if name]
    shown = ", ".join(f"{name} {'set' if os.environ.get(name) else 'not set'}" for name in names)
    yield Finding("ok", "keys", shown)
    if config.logger.name == "wandb" and not os.environ.get("WANDB_API_KEY"):
        text = "logger=wandb logs offline without WANDB_API_KEY"
        yield Finding("note", "keys", text, "`wandb sync` later, or export the key")


def check_disk(config: Config, steps: Sequence[str], features: float = 0.0) -> Iterator[Finding]:
    """The free space at `paths.runs` against what the run writes, including `features` GiB of image features."""
    runs = Path(config.paths.runs).resolve()
    there = next(folder for folder in (runs, *runs.parents) if folder.exists())
    free, model = shutil.disk_usage(there).free / GIB, model_of(config)
    need = features + (disk_of(config, model, steps) if model else 0.0)
    text = f"{free:.0f} GiB free at {runs}, about {need:.1f} needed"
    remedy = "choose another folder: paths.runs=<folder>"
    if not os.access(there, os.W_OK):
        yield Finding("problem", "disk", f"{there} cannot be written", remedy)
    elif need > free:
        yield Finding("problem", "disk", text, f"free disk space, or {remedy}")
    else:
        yield Finding("ok", "disk", text)


def check_ledger(config: Config, steps: Sequence[str]) -> Iterator[Finding]:
    """Whether the Teacher's replies can be written at `paths.ledger`."""
    if not asks_teacher(steps):
        return
    if reason := unusable(Path(config.paths.ledger)):
        yield Finding("problem", "ledger", reason, "choose another file: paths.ledger=<file>")
    else:
        yield Finding("ok", "ledger", str(Path(config.paths.ledger).resolve()))
