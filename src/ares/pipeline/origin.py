"""Where a step ran, for the report's section on how to reproduce it: command, commit of the source, machine."""

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

from ares.config.commands import command


def origin() -> dict[str, str]:
    """The command that was typed, the source's commit (absent outside a checkout) and the machine, as text."""
    found = {"command": command(), "commit": _commit(), "machine": _machine()}
    return {name: text for name, text in found.items() if text}


@cache
def _commit() -> str:
    """The checked-out commit, with `-dirty` if tracked files differ from it."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():  # an installed package, perhaps inside another repository
        return ""
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


@cache
def _machine() -> str:
    """Processor, cores and GPUs; from files of the system, because a GPU must not be touched here."""
    cpu = _field(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()
    drivers = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    gpus = [_field(path, "Model") for path in drivers]
    names = [f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)]
    return ", ".join([f"{cpu}, {os.cpu_count()} cores", *names])


def _field(path: Path, name: str) -> str:
    """The value of the first `name: value` line of a file; empty without one."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    values = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in values if key.strip() == name), "")
