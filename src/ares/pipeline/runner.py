"""Runs a stage's steps in a run folder: skips finished steps, resumes unfinished ones, refuses changed ones."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from ares import interrupts
from ares.config.compose import to_plain
from ares.config.schema import Config
from ares.console import progress
from ares.launch.group import dismiss, follow, run_in_group
from ares.launch.notices import quieten
from ares.launch.placement import check_devices, check_processes
from ares.pipeline.checks import refuse_data, refuse_mistakes
from ares.pipeline.headline import headline
from ares.pipeline.manifest import (
    StepEntry,
    artefact_at,
    drop_entry,
    is_complete,
    is_unaltered,
    read_manifest,
    versions,
    write_entry,
)
from ares.pipeline.origin import origin
from ares.pipeline.plan import PREPARED, Step, steps_of
from ares.pipeline.stale import Fingerprint, Run, difference, refusal, run_folder
from ares.pipeline.sweeps.sharing import run_once
from ares.ranks import is_first, world_size
from ares.steps.common.contract import StepContext, StepResult, function_of, spec_of
from ares.steps.common.inputs import log_metrics
from ares.steps.common.tracking import StepFiles, finish_wandb, log_files
from ares.steps.prepare import prepared
from ares.storage.files import atomic_path, remove_leftovers
from ares.types import AresError

# Runs a step by its name, in this process or in a group of ranks.
Perform = Callable[[Config, StepContext, str], StepResult]


def run_stage(config: Config, *, shared_only: bool = False) -> bool:
    """Runs `config.stage` in `<paths.runs>/<run>`; with `shared_only` only the steps that a sweep's jobs share.

    Returns whether this process orchestrates the run, False for another rank of the user's torchrun. Raises AresError
    if an upstream artefact is missing, if a finished step's settings or inputs differ (`on_change=refuse`), or if
    another process writes the same run.
    """
    quieten()
    check_processes(config)
    if not is_first():
        check_devices(config)
        follow()
        return False
    root, planned = run_folder(config), steps_of(config)
    steps = [step for step in planned if step.shared or not shared_only]
    refuse_mistakes(Run(root, config, planned, {}), steps)
    root.mkdir(parents=True, exist_ok=True)
    with _lock(root):
        remove_leftovers(root)
        try:
            ran = _run_steps(root, config, planned, steps)
            if not shared_only and not ran and "report" not in config.stage.steps:
                print(f"{config.run}: all steps of stage={config.stage.name} are done; nothing to do.")
        finally:
            finish_wandb()
    dismiss()
    return True


def is_finished(config: Config) -> bool:
    """Whether all steps of the stage are finished in its run, with the present settings."""
    root = run_folder(config)
    manifest = read_manifest(root)
    if not manifest:
        return False
    try:
        source = prepared(config, make=False)
    except AresError:  # the run itself reports what is missing, or writes it
        return False
    run = Run(root, config, steps_of(config), source)
    for step in run.steps:
        done = manifest.get(step.key)
        if not done or not is_complete(root, done) or run.fingerprint(step).hash != done.hash:
            return False
    return True


def _run_steps(root: Path, config: Config, planned: Sequence[Step], steps: Sequence[Step]) -> int:
    """Runs those of the `planned` steps that are listed and unfinished; returns how many."""
    world = config.trainer.devices * config.trainer.num_nodes

    def perform(config: Config, context: StepContext, name: str) -> StepResult:
        if world > 1 and spec_of(name).runs_on == "device":
            return run_in_group(config, context, name)
        return function_of(name)(config, context)

    if config.trainer.threads and world == 1:
        _limit_threads(config.trainer.threads)
    if left := [step for step in steps if step.key not in read_manifest(root)]:  # preparing may take a while
        print(
            f"{config.run}: {len(left)} of {len(steps)} {'step' if len(steps) == 1 else 'steps'} to run in {root}",
            flush=True,
        )
    run = Run(root, config, planned, _source(root, config, planned))
    refuse_data(run, steps)
    return sum(_run_step(run, step, perform) for step in steps)


def _limit_threads(count: int) -> None:
    """Sets torch's threads, now or when it is imported, which a finished run does not."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def _source(root: Path, config: Config, planned: Sequence[Step]) -> dict[str, Path]:
    """The prepared folders, which are made if need be; none for steps that read neither problems nor features."""
    if not {name for step in planned for name in step.spec.reads_of(config, step.place)} & set(PREPARED):
        return {}
    world = config.trainer.devices * config.trainer.num_nodes
    make = config.data.name == "sample" or "prepare" in config.stage.steps
    if world == 1 or world_size() > 1 or not make:
        return prepared(config, make=make)
    try:
        return prepared(config, make=False)
    except AresError:
        # Features are extracted on a GPU, which the orchestrator must not touch.
        run_in_group(config, StepContext(root, "prepare", root, 0, config, ""), "prepare", alone=True)
        return prepared(config, make=False)


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


# --------------------------------------------------------------------------------------------------
# One step
# --------------------------------------------------------------------------------------------------


def _run_step(run: Run, step: Step, perform: Perform) -> bool:
    """Runs a step unless it is finished; returns whether it ran."""
    interrupts.note(step.key)
    root, config = run.root, run.config
    now = run.fingerprint(step)
    changes_nothing = step.spec.asks_teacher and config.teacher.dry_run
    if _is_done(run, step, now, changes_nothing):
        return False
    if not changes_nothing:
        with atomic_path(root / "config.yaml") as path:
            path.write_text(OmegaConf.to_yaml(OmegaConf.create(to_plain(config))))
        drop_entry(root, step.key)
    shared = bool(config.sweep.of) and (step.shared or config.sweep.share == "all")
    name = f"{step.spec.name}-{step.round}" if step.round else step.spec.name  # its hash leaves out the round
    common = Path(config.paths.runs).resolve() / "shared" / f"{name}-{now.hash[:16]}"
    folder = common / "made" if shared else root / step.folder
    paths = {name: root / artefact.path for name, artefact in now.inputs.items()}
    context = StepContext(root, step.key, folder, step.round, config, now.hash, paths, _title(run, step))
    execute = partial(_execute, context, step, now, perform)
    write_entry(root, step.key, run_once(common, step.key, execute) if shared else execute())
    if not shared:
        log_files(config, root, _files(root, step.key, read_manifest(root)[step.key]))
        log_metrics(config, root, {key: entry.metrics for key, entry in read_manifest(root).items()})
    shutil.rmtree(context.checkpoints, ignore_errors=True)
    return True


def _files(root: Path, key: str, entry: StepEntry) -> StepFiles:
    inputs, outputs = (
        {name: (root / artefact.path, artefact.sha256) for name, artefact in side.items()}
        for side in (entry.inputs, entry.outputs)
    )
    return StepFiles(key, inputs, outputs)


def _is_done(run: Run, step: Step, now: Fingerprint, changes_nothing: bool) -> bool:
    """Whether a step is finished and stays as it is. Raises AresError if it differs and `on_change` is refuse."""
    manifest, config = read_manifest(run.root), run.config
    done = manifest.get(step.key)
    if not done or not is_complete(run.root, done):
        return False
    altered = [name for name, output in done.outputs.items() if not is_unaltered(run.root, output)]
    if done.hash == now.hash and not altered:
        print(f"{step.key}: done")
        return True
    changed = difference(done, now, altered)
    if config.on_change == "keep":
        kept = f"{step.key}: kept, though it {changed}"
        # Altered bytes are not a choice of settings; they may be damage.
        print(f"warning: {kept}" if altered else kept, file=sys.stderr if altered else sys.stdout)
        return True
    if config.on_change == "refuse" and not changes_nothing:
        raise AresError(refusal(step, config, manifest, changed))
    return False


def _execute(context: StepContext, step: Step, now: Fingerprint, perform: Perform) -> StepEntry:
    context.folder.mkdir(parents=True, exist_ok=True)
    if not sys.stdout.isatty():
        print(f"{step.key}: started ({context.title.partition(' · ')[0]})", flush=True)
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    progress.begin(context.title, context.key)
    try:
        result = perform(context.config, context, step.name)
    finally:
        progress.end()
    seconds = time.monotonic() - clock
    print(f"{step.key}: {headline(step, result)}{seconds:.1f} s", flush=True)
    return StepEntry(
        hash=now.hash,
        settings=now.settings,
        inputs=now.inputs,
        outputs={name: artefact_at(path, context.root) for name, path in result.files.items()},
        versions=versions(),
        started=started,
        seconds=round(seconds, 2),
        usd=result.usd,
        requests=result.requests,
        metrics={name: float(value) for name, value in result.metrics.items()},
        origin=origin(),
    )


def _title(run: Run, step: Step) -> str:
    number = [other.key for other in run.steps].index(step.key) + 1
    place = f", round {step.round}" if step.round and run.config.rounds > 1 else ""
    return f"step {number} of {len(run.steps)} · {step.spec.name}{place}"
