"""Runs a stage's steps in a run folder: skips what is done, resumes what is not, refuses what changed."""

import importlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from ares.config.schema import Config
from ares.launch.group import DEVICE_STEPS, Place, place_of, run_in_group
from ares.launch.meeting import Leader, follow
from ares.launch.notices import quieten
from ares.launch.placement import check_devices
from ares.pipeline.changes import difference, refusal
from ares.pipeline.fingerprint import address
from ares.pipeline.manifest import (
    drop_entry,
    is_unaltered,
    is_whole,
    output_of,
    read_manifest,
    versions,
    write_entry,
)
from ares.pipeline.plan import SHARED, Step, steps_of
from ares.pipeline.sweeps.sharing import run_once
from ares.steps.common.asking import TEACHER_STEPS, check_teacher
from ares.steps.common.contract import StepContext, StepResult
from ares.steps.common.inputs import log_figures
from ares.steps.evaluate import check_split
from ares.steps.prepare import prepared
from ares.storage.files import atomic_path
from ares.types import AresError

# Runs a step, in this process or in a group of its own: (config, context, the step's name).
Perform = Callable[[Config, StepContext, str], StepResult]
# The figures that a step's last line tells; of other steps the first ones.
_TOLD = {
    "ppo": ("train/score", "train/kl_k3"),
    "assess": (
        "supporting",
        "irrelevant",
        "false",
        "invented",
        "repeated",
        "rouge_l",
        "similarity",
        "repetition",
    ),
    "evaluate": ("accuracy/AVG", "bleu4", "rouge_l", "failed_extractions"),
}
_MOST_TOLD = 6


def run_stage(config: Config, *, shared_only: bool = False) -> bool:
    """Runs `config.stage` in `<paths.runs>/<run>`; with `shared_only` the steps alone that a sweep's jobs share.

    Returns whether this process orchestrates the run, False where it only started ranks for another one.

    Raises AresError where an upstream artefact is missing, a finished step's configuration or inputs
    differ (`on_change=refuse`), or another process writes the same run.
    """
    quieten()
    check_devices(config)
    place, root = place_of(config), run_folder(config)
    root.mkdir(parents=True, exist_ok=True)
    if not place.leads:
        follow(root / ".launch", place)
        return False
    with _lock(root):
        # What a killed run left; whoever follows calls again.
        shutil.rmtree(root / ".launch", ignore_errors=True)
        leader = Leader(root / ".launch", place.others)
        try:
            _run_steps(root, config, place, leader, shared_only)
        finally:
            leader.dismiss()
            _finish_wandb()
        if not place.others:
            shutil.rmtree(root / ".launch", ignore_errors=True)
    return True


def run_folder(config: Config) -> Path:
    """The run's folder, absolute."""
    return (Path(config.paths.runs) / config.run).resolve()


def is_finished(config: Config) -> bool:
    """Whether the stage has nothing left to do in its run, as it is configured now."""
    root = run_folder(config)
    if not (root / "manifest.json").exists():
        return False
    try:
        source = prepared(config, make=False)
    except AresError:  # the run itself says what is missing, or makes it
        return False
    manifest = read_manifest(root)
    own = {path for step in steps_of(config) for path in step.outputs.values()}
    for step in steps_of(config):
        done = manifest["steps"].get(step.key)
        if not done or not is_whole(root, done):
            return False
        if address(root, config, step, source, own, manifest)[2] != done["hash"]:
            return False
    return True


def _run_steps(root: Path, config: Config, place: Place, leader: Leader, shared_only: bool) -> None:
    def perform(config: Config, context: StepContext, name: str) -> StepResult:
        if place.world > 1 and name in DEVICE_STEPS:
            return run_in_group(config, context, name, place, leader.announce, leader.failure)
        return getattr(importlib.import_module(f"ares.steps.{name}"), name)(config, context)

    if config.trainer.threads and place.world == 1:
        import torch

        torch.set_num_threads(config.trainer.threads)
    steps = [step for step in steps_of(config) if not shared_only or step.key in SHARED]
    made = read_manifest(root)["steps"]
    if any(step.name in TEACHER_STEPS and step.key not in made for step in steps):
        check_teacher(config)  # before hours of training, not after them
    source = _source(root, config, place)
    if any(step.name == "evaluate" for step in steps):
        check_split(config, source["data"])
    own = {path for step in steps_of(config) for path in step.outputs.values()}
    ran = [_run_step(root, config, step, source, own, perform) for step in steps]
    if shared_only:
        return
    if not any(ran) and "report" not in config.stage.steps:
        print(f"{config.run}: everything that stage={config.stage.name} makes is there; nothing to do.")


def _source(root: Path, config: Config, place: Place) -> dict[str, Path]:
    make = config.data["name"] == "sample" or "prepare" in config.stage.steps
    if place.world == 1 or not make:
        return prepared(config, make=make)
    try:
        return prepared(config, make=False)
    except AresError:
        # Features are extracted on a GPU, which this process leaves alone; one process does it.
        run_in_group(config, StepContext(root, "prepare", root, 0, config, ""), "prepare", Place())
        return prepared(config, make=False)


def _finish_wandb() -> None:
    # Else the next job of a sweep in this process would go on in this run's.
    if "wandb" in sys.modules and sys.modules["wandb"].run is not None:
        sys.modules["wandb"].finish()


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    lock = FileLock(root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise AresError(
            f"{root} is being written by another process; wait for it, or choose another run=<name>."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _write_config(root: Path, config: Config) -> None:
    with atomic_path(root / "config.yaml") as path:
        path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))


# --------------------------------------------------------------------------------------------------
# One step
# --------------------------------------------------------------------------------------------------


def _run_step(
    root: Path, config: Config, step: Step, source: Mapping[str, Path], own: set[str], perform: Perform
) -> bool:
    manifest = read_manifest(root)
    settings, inputs, digest = address(root, config, step, source, own, manifest)
    done = manifest["steps"].get(step.key)
    changes_nothing = step.name in TEACHER_STEPS and config.teacher["dry_run"]
    if done and is_whole(root, done):
        altered = [n for n, output in done["outputs"].items() if not is_unaltered(root, output)]
        if done["hash"] == digest and not altered:
            print(f"{step.key}: done")
            return False
        changed = difference(done, settings, inputs, altered)
        if config.on_change == "keep":
            kept = f"{step.key}: kept, though it {changed}"
            # Altered bytes are no other choice of settings: they may be damage.
            print(f"warning: {kept}" if altered else kept, file=sys.stderr if altered else sys.stdout)
            return False
        if config.on_change == "refuse" and not changes_nothing:
            raise AresError(refusal(step, config, manifest, changed))
    if not changes_nothing:
        _write_config(root, config)
        drop_entry(root, step.key)
    shared = bool(config.sweep.of) and step.key in SHARED
    folder = (
        Path(config.paths.runs).resolve() / "shared" / f"{step.name}-{digest[:16]}"
        if shared
        else root / step.folder
    )
    paths = {name: root / value["path"] for name, value in inputs.items()}
    context = StepContext(
        root, step.key, folder / "made" if shared else folder, step.round, config, digest, paths
    )
    execute = partial(_execute, context, step, settings, inputs, perform)
    write_entry(root, step.key, run_once(folder, step.key, execute) if shared else execute())
    if not shared:
        log_figures(config, root, read_manifest(root)["steps"])
    shutil.rmtree(context.checkpoints, ignore_errors=True)
    return True


def _execute(
    context: StepContext, step: Step, settings: Any, inputs: Mapping[str, Mapping[str, str]], perform: Perform
) -> dict[str, Any]:
    context.folder.mkdir(parents=True, exist_ok=True)
    print(f"{step.key}: started", flush=True)
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    made = perform(context.config, context, step.name)
    seconds = time.monotonic() - clock
    outputs = {name: output_of(path, context.root) for name, path in made.files.items()}
    print(f"{step.key}: {_summary(step, made)}{seconds:.1f} s", flush=True)
    return {
        "hash": context.hash,
        "settings": settings,
        "inputs": inputs,
        "outputs": outputs,
        "versions": versions(),
        "started": started,
        "seconds": round(seconds, 2),
        "usd": made.usd,
        "requests": made.requests,
        "metrics": {name: float(value) for name, value in made.metrics.items()},
    }


def _summary(step: Step, made: StepResult) -> str:
    names = [name for name in _TOLD.get(step.name, made.metrics) if name in made.metrics][:_MOST_TOLD]
    return "".join(f"{name} {made.metrics[name]:.4g} · " for name in names)
