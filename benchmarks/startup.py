"""How long commands take that run no step, against importing torch, which each of them did before.

    python -m benchmarks startup --json F

Each command is a process of its own, in turns, with bytecode cached. Seconds on the wall and of the processor; "first line"
is the time to the first line that a command prints that does run a step.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
REPEATS = 5
TINY = (
    *("experiment=demo", "stage=rationale", "features=none", "data.sizes={train: 8, val: 4, test: 4}"),
    *("rationale.epochs=1", "generate.max_new_tokens=8"),
)


def main(args: argparse.Namespace) -> dict[str, float]:
    """Prints a row per command and returns the medians."""
    with tempfile.TemporaryDirectory() as folder:
        runs = f"paths.runs={folder}"
        train = [sys.executable, str(REPOSITORY / "train.py")]
        finished = [*train, *TINY, runs, "run=finished"]
        seconds(finished)  # trains a tiny policy, and writes the bytecode
        commands = {
            "import_torch": [sys.executable, "-c", "import torch"],
            "help": [*train, "--help"],
            "help_block": [*train, "--help", "rl"],
            "configuration": [*train, "experiment=demo", "--cfg", "job"],
            "typo": [*train, "experiment=demo", "rl.klcoef=1"],
            "missing_policy": [*train, "experiment=demo", "stage=rl", runs, "run=absent"],
            "finished_run": finished,
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in [*commands, "first_line"]}
        for _ in range(REPEATS):
            for name, command in commands.items():
                found[name].append(seconds(command))
            found["first_line"].append(first_line([*finished[:-1], "run=again", "on_change=rerun", "seed=1"]))
    print(f"{'':16}{'wall':>8}{'lowest':>8}{'highest':>8}{'CPU':>8}")
    for name, both in found.items():
        wall, cpu = zip(*both, strict=True)
        middle = (statistics.median(wall), min(wall), max(wall), statistics.median(cpu))
        print(f"{name:16}" + "".join(f"{value:8.2f}" for value in middle))
    return {f"{name}_s": statistics.median(wall for wall, _ in both) for name, both in found.items()}


def seconds(command: list[str]) -> tuple[float, float]:
    """The seconds of a command: on the wall, and of the processor."""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=False, env=_environment())
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def first_line(command: list[str]) -> tuple[float, float]:
    """The same up to the first line that a command prints; it is ended then."""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        wall = time.perf_counter() - start
        process.kill()
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
