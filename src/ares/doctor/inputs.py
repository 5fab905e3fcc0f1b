"""What a stage reads of its run, which earlier stages have to make first."""

from collections.abc import Iterator
from dataclasses import replace

from omegaconf import OmegaConf

from ares.addressing import input_of
from ares.config import folder, options
from ares.doctor.findings import Finding
from ares.manifest import read_manifest
from ares.run import run_folder
from ares.schema import Config
from ares.steps.judge import other_rationales
from ares.steps.plan import steps_of
from ares.types import AresError


def stage_steps(stage: str) -> list[str]:
    """The steps of a stage; raises AresError where there is no such stage."""
    if stage not in options("stage"):
        raise AresError(
            f"doctor.stage={stage}: there is no such stage; choose from {', '.join(options('stage'))}."
        )
    loaded = OmegaConf.to_container(OmegaConf.load(folder() / "stage" / f"{stage}.yaml"))
    assert isinstance(loaded, dict)
    return list(loaded["steps"])


def asked_run(config: Config) -> Config:
    """The configuration of the run that is examined: its stage, and its name where it is the default one."""
    stage = config.doctor.stage
    return replace(
        config,
        stage=replace(config.stage, name=stage, steps=stage_steps(stage)),
        run=config.run.replace("doctor-", f"{stage}-", 1),
    )


def check_inputs(config: Config) -> Iterator[Finding]:
    """Inputs that the run does not hold; of its first policy `check_checkpoints` speaks."""
    asked = asked_run(config)
    root, plan = run_folder(asked), steps_of(asked)
    own = {path for step in plan for path in step.outputs.values()}
    manifest = read_manifest(root)
    needed = {path: (step, name) for step in reversed(plan) for name, path in step.inputs.items()}
    for path, (step, name) in needed.items():
        if path in own or path == "rationale/policy" or (name == "policy" and config.policy):
            continue
        try:
            input_of(root, asked, step, name, path, manifest, own)
        except AresError as error:
            yield Finding("problem", "inputs", *_parts(error))
    if config.doctor.stage == "judge":
        try:
            other_rationales(asked)
        except AresError as error:
            yield Finding("problem", "inputs", *_parts(error))


def _parts(error: AresError) -> tuple[str, str]:
    """What is wrong, and what to do, which messages say after a semicolon."""
    text, _, remedy = str(error).partition("; ")
    return text, remedy
