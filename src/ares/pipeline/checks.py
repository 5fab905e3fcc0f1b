"""Why a stage cannot run: found before anything is prepared or written, and without torch."""

import sys
from collections.abc import Callable, Sequence
from functools import partial

from ares.config.schema import Config
from ares.launch.placement import check_devices, check_processes, has_driver
from ares.pipeline.manifest import read_manifest
from ares.pipeline.plan import Step, steps_of
from ares.pipeline.stale import Run, run_folder
from ares.steps.prepare import check_root
from ares.types import AresError


def refuse_mistakes(run: Run, steps: Sequence[Step]) -> None:
    """Prints warnings; raises one AresError with all missing inputs, refused settings, missing data and devices."""
    warnings: list[str] = []
    found = [*run.missing_inputs(steps), *_refused_settings(run, steps, warnings)]
    if found:
        found += _refusals(partial(check_root, run.config))
    if (
        not found or not has_driver()
    ):  # with a driver, GPUs are counted by torch, which takes seconds to import
        found += _refusals(partial(check_devices, run.config))
    for warning in dict.fromkeys(warnings):
        print(f"warning: {warning}", file=sys.stderr)
    if found:
        raise AresError("\n".join(dict.fromkeys(found)))


def refuse_data(run: Run, steps: Sequence[Step]) -> None:
    """Raises one AresError with all that the unfinished steps refuse in the prepared data."""
    done = read_manifest(run.root)
    checks = [step.spec.check_data for step in steps if step.key not in done]
    found = [text for check in checks for text in _refusals(partial(check, run.config, run.source))]
    if found:
        raise AresError("\n".join(dict.fromkeys(found)))


def mistakes_of(config: Config) -> list[str]:
    """One sentence for each setting that this machine or a step of the stage refuses; then also for missing data."""
    found = [*_refusals(partial(check_processes, config)), *_refusals(partial(check_devices, config))]
    try:
        planned = steps_of(config)
    except AresError as error:
        return [*found, str(error)]
    found += _refused_settings(Run(run_folder(config), config, planned, {}), planned, [])
    if found:
        found += _refusals(partial(check_root, config))
    return list(dict.fromkeys(found))


def _refused_settings(run: Run, steps: Sequence[Step], warnings: list[str]) -> list[str]:
    """What the unfinished steps refuse; adds what they warn of to `warnings`."""
    done = read_manifest(run.root)
    found: list[str] = []
    for step in steps:
        if step.key not in done:
            found += _refusals(lambda step=step: warnings.extend(step.spec.check(run.config)))  # type: ignore[misc]
            found += _refusals(partial(step.spec.files, run.config))
    return found


def _refusals(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except AresError as error:
        return str(error).splitlines()
    return []
