"""Studies: every arm (settings by name) with every seed, a run each; steps with equal inputs run once for all runs."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ares import interrupts
from ares.config.compose import to_config, to_plain
from ares.config.schema import Config
from ares.config.validation import validate
from ares.pipeline.plan import stage_steps
from ares.pipeline.runner import is_finished, run_folder, run_stage
from ares.types import AresError


@dataclass(frozen=True)
class Trial:
    """One arm with one seed: an ordinary run, which can be resumed, reported on and asked alone."""

    arm: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Its name among the trials, and its folder's."""
        return f"{self.arm}-{self.seed}"


def run_study(config: Config) -> list[Trial]:
    """Runs the unfinished trials of a study, `study.workers` at a time, and returns all.

    Raises AresError for mistakes before anything runs, and as `run_trials` does.
    """
    trials = trials_of(config)
    run_trials(trials, config.study.workers)
    return trials


def run_trials(trials: Sequence[Trial], workers: int) -> None:
    """Runs the unfinished ones of some trials, `workers` at a time.

    What a trial prints is in its folder's `console.log`. Raises AresError for failed trials after the others have ended.
    """
    waiting = [trial for trial in trials if not is_finished(trial.config)]
    print(
        f"{len(trials) - len(waiting)} of {len(trials)} trials are done, {len(waiting)} start now.",
        flush=True,
    )
    errors, busy = {}, 0.0
    for number, (trial, (error, seconds)) in enumerate(_outcomes(waiting, workers), start=1):
        busy += seconds
        state = "failed" if error else "done"
        print(
            f"{trial.name}: {state} · {number} of {len(waiting)} · {seconds:.0f} s of processor time",
            flush=True,
        )
        if error:
            errors[trial.name] = error
    if waiting:
        print(f"{busy / 60:.1f} min of processor time", flush=True)
    if errors:
        reasons = "".join(f"\n  {name}: {error}" for name, error in errors.items())
        raise AresError(
            f"{len(errors)} of {len(trials)} trials failed; the same command again retries them.{reasons}"
        )


def trials_of(config: Config) -> list[Trial]:
    """The trials of a study, arm by arm. Raises AresError with all mistakes in all of them."""
    if not config.study.arms:
        raise AresError(
            "A study needs study.arms; see conf/experiment/claims.yaml, or run experiment=claims."
        )
    trials, mistakes = [], []
    for arm, settings in config.study.arms.items():
        for seed in range(config.seed, config.seed + config.study.seeds):
            node = OmegaConf.create(to_plain(config))
            node.stage = {"name": "ares", "steps": stage_steps("ares")}
            node.seed, node.run = seed, f"{config.run}/sweep/{arm}-{seed}"
            node.sweep.of, node.sweep.share = config.run, "all"
            try:
                for key, value in settings.items():
                    OmegaConf.update(node, key, value)
                trials.append(Trial(arm, seed, to_config(node)))
                validate(trials[-1].config)
            except (AresError, OmegaConfBaseException) as error:
                mistakes.append(f"study.arms.{arm}: {str(error).splitlines()[0]}")
    if mistakes:
        raise AresError("\n".join(dict.fromkeys(mistakes)))
    return trials


def _outcomes(trials: Sequence[Trial], workers: int) -> Iterator[tuple[Trial, tuple[str | None, float]]]:
    """Each trial when it has ended, with what `_run` returns; in this process if one runs at a time."""
    if workers == 1:
        yield from ((trial, _run(trial)) for trial in trials)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, interrupts.install, (None,)) as pool:
        try:
            found = {pool.submit(_run, trial): trial for trial in trials}
            yield from ((found[done], done.result()) for done in as_completed(found))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _run(trial: Trial) -> tuple[str | None, float]:
    """Runs a trial; returns why it could not be finished, and the seconds of processor time in this process."""
    interrupts.check()  # a worker that was asked to end starts no other trial
    start, error = time.process_time(), None
    path = run_folder(trial.config) / "console.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            run_stage(trial.config)
        except AresError as refusal:
            error = str(refusal)
    return error, time.process_time() - start
