"""Runs the jobs of a sweep; steps that do not depend on the swept settings run once, before the first job."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ares.config.commands import is_swept, setting_of
from ares.config.compose import to_config
from ares.config.schema import Config
from ares.config.validation import validate
from ares.launch.placement import processes_started
from ares.pipeline.checks import mistakes_of
from ares.pipeline.manifest import read_manifest
from ares.pipeline.plan import steps_of
from ares.pipeline.runner import is_finished, run_folder, run_stage
from ares.pipeline.sweeps.search import Setting, settings_of
from ares.pipeline.sweeps.table import job_row, write_sweep
from ares.storage.files import hash_of
from ares.types import AresError


@dataclass(frozen=True)
class Job:
    """One setting of a sweep: `name` is its folder, `overrides` its complete command line."""

    name: str
    setting: Setting
    overrides: list[str]
    config: Config


def run_sweep(
    master: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
    arguments: list[str],
    compare: Callable[[Path, Mapping[str, Path]], Path] | None = None,
) -> list[JobReturn]:
    """Runs the unfinished jobs of a command line's overrides; returns their results as Hydra reports them.

    `master` is the composed configuration with its `hydra` block, `loader` composes a job's, `launcher` runs jobs.
    The sweep's table is printed at the end and written to `<paths.runs>/<run>/sweep`, with the page that
    `compare(path, {name: folder of a job})` writes from two finished jobs or more. Raises AresError for mistakes before
    anything runs, and for failed jobs after the others have ended.
    """
    jobs = jobs_of(master, loader, arguments)
    if processes_started() > 1:
        raise AresError("A sweep starts its own processes; run it without torchrun or srun.")
    unfinished = [job for job in jobs if not is_finished(job.config)]
    _refuse({job.name: mistakes_of(job.config) for job in unfinished})
    for job in unfinished:
        print(f"{job.name}: shared steps")
        _make_shared(job.config)
    waiting = [job for job in jobs if not is_finished(job.config)]
    print(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs are done, {len(waiting)} start now.", flush=True)
    results, errors = _launched(launcher, waiting)
    failed = [job.name for job in waiting if not is_finished(job.config)]
    folder = run_folder(jobs[0].config).parent
    rows = [job_row(job.name, dict(job.setting), run_folder(job.config), job.name in failed) for job in jobs]
    print(write_sweep(folder, rows))
    finished = {job.name: run_folder(job.config) for job in jobs if job.name not in failed}
    if compare and len(finished) > 1:
        print(compare(folder / "compare.html", finished))
    if failed:
        reasons = "".join(f"\n  {name}: {error}" for name, error in errors.items())
        raise AresError(
            f"{len(failed)} of {len(jobs)} jobs failed ({', '.join(failed)}); the same command again retries them.{reasons}"
        )
    return results


def _launched(launcher: Launcher, jobs: Sequence[Job]) -> tuple[list[JobReturn], dict[str, str]]:
    """The results of jobs, and the errors by name."""
    results: list[JobReturn] = []
    errors: dict[str, str] = {}
    if jobs:
        try:
            results = list(launcher.launch([job.overrides for job in jobs], initial_job_idx=0))
        except Exception as error:  # a launcher may raise if a job died; the other jobs' folders are complete
            errors["launcher"] = str(error)
    for job, result in zip(jobs, results, strict=False):
        if result.status.name == "FAILED":
            errors[job.name] = str(result._return_value)
    return results, errors


def _make_shared(config: Config) -> None:
    try:
        run_stage(config, shared_only=True)
    except AresError as error:
        message, of = str(error), str(config.sweep.of)
        typed = shlex.quote(setting_of("run", config.run))
        if f"run={config.run}" not in message and typed not in message:
            raise
        # Missing inputs must be written in the run that the jobs start from.
        message = message.replace(typed, shlex.quote(setting_of("run", of)))
        raise AresError(message.replace(config.run, of)) from None


def jobs_of(master: DictConfig, loader: ConfigLoader, arguments: Sequence[str]) -> list[Job]:
    """The jobs of a command line. Raises AresError with all mistakes in all of them."""
    config = _composed(loader, master, [text for text in arguments if not is_swept(text)])
    params = [f"{key}={value}" for key, value in config.sweep.params.items()]
    fixed, settings = settings_of([*params, *arguments], samples=config.sweep.samples, seed=config.sweep.seed)
    if "run" in dict(settings[0]):
        raise AresError("The jobs of a sweep are in the folder of one run; give one run=<name>.")
    common = [*fixed, *_common_overrides(config)]
    jobs: list[Job] = []
    for setting, name in zip(settings, names_of(settings), strict=True):
        run = f"{config.run}/sweep/{name}"
        overrides = [*common, *(f"{key}={value}" for key, value in setting), setting_of("run", run)]
        jobs.append(Job(name, setting, overrides, _composed(loader, master, overrides)))
    _refuse({job.name: _impossible(job.config) for job in jobs})
    return jobs


def _refuse(mistakes: Mapping[str, Sequence[str]]) -> None:
    """Raises AresError with all mistakes, given by job, each after the name of its job unless all jobs have it."""
    common = [
        text for text in next(iter(mistakes.values()), ()) if all(text in own for own in mistakes.values())
    ]
    found = [f"{name}: {text}" for name, own in mistakes.items() for text in own if text not in common]
    if common or found:
        raise AresError("\n".join([*common, *found]))


def _impossible(config: Config) -> list[str]:
    try:
        validate(config)
        if steps_of(config):
            return []
    except AresError as error:
        return str(error).splitlines()
    return [f"stage={config.stage.name} has no steps that jobs could share or repeat; run it without -m."]


def names_of(settings: Sequence[Setting]) -> list[str]:
    """The folder of each job; equal names get a hash of the setting appended."""
    names = [name_of(setting) for setting in settings]
    return [
        name if names.count(name) == 1 else f"{name}-{hash_of([list(pair) for pair in setting])[:6]}"
        for name, setting in zip(names, settings, strict=True)
    ]


def name_of(setting: Setting) -> str:
    """A job's folder: its setting, such as "kl_coef=0.1,clip_range=0.2"."""
    keys = [key.rsplit(".", 1)[-1] for key, _ in setting]
    names = keys if len(set(keys)) == len(keys) else [key for key, _ in setting]
    text = ",".join(f"{name}={value}" for name, (_, value) in zip(names, setting, strict=True))
    return "".join(character if character.isalnum() or character in "=,._+-" else "_" for character in text)


def _composed(loader: ConfigLoader, master: DictConfig, overrides: Sequence[str]) -> Config:
    try:
        config = loader.load_sweep_config(master, list(overrides))
        return to_config(
            DictConfig({key: value for key, value in config.items_ex(resolve=False) if key != "hydra"})
        )
    except (HydraException, OmegaConfBaseException) as error:
        raise AresError(f"{' '.join(overrides)}: {str(error).splitlines()[0]}") from error


def _common_overrides(config: Config) -> list[str]:
    found = [setting_of("sweep.of", config.run)]
    if config.logger.group is None:
        found.append(setting_of("logger.group", config.run))
    start = run_folder(config) / "rationale" / "policy"
    alone = config.policy is None and "rationale" not in config.stage.steps
    if alone and "rationale" in read_manifest(run_folder(config)):
        # The jobs have their own folders; they start from the policy of the run that they are named after.
        found.append(setting_of("policy", str(start)))
    return found
