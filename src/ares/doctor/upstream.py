"""The inputs of a stage that earlier stages of its run must have written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ares.config.commands import command
from ares.config.compose import folder, options
from ares.config.schema import Config
from ares.doctor.findings import Finding, parts
from ares.original.predictions import published_hash, read_published_answers, read_published_rationales
from ares.pipeline.fingerprint import input_of
from ares.pipeline.manifest import read_manifest
from ares.pipeline.plan import Step, published_of, steps_of
from ares.pipeline.runner import run_folder
from ares.steps.judge import other_rationales
from ares.types import AresError, Problem


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
    """The configuration of the examined run: with its stage, and its name if that is the default."""
    stage = config.doctor.stage
    return replace(
        config,
        stage=replace(config.stage, name=stage, steps=stage_steps(stage)),
        run=config.run.replace("doctor-", f"{stage}-", 1),
    )


def check_inputs(
    config: Config, problems: Mapping[str, Problem], splits: Mapping[str, Sequence[str]]
) -> Iterator[Finding]:
    """Missing inputs of the run, and unreadable published ones; `check_checkpoints` reports the first policy."""
    asked = asked_run(config)
    root, plan = run_folder(asked), steps_of(asked)
    own = {path for step in plan for path in step.outputs.values()}
    manifest = read_manifest(root)
    yield from _run_contents(config.doctor.stage, root, manifest)
    needed = {path: (step, name) for step in reversed(plan) for name, path in step.inputs.items()}
    for path, (step, name) in needed.items():
        if path in own or path == "rationale/policy" or (name == "policy" and config.policy):
            continue
        try:
            input_of(root, asked, step, name, path, manifest, own)
        except AresError as error:
            yield Finding("problem", "inputs", *parts(error))
    try:
        if config.doctor.stage == "judge":
            other_rationales(asked)
        _read_published(asked, plan, problems, splits)
    except AresError as error:
        yield Finding("problem", "inputs", *parts(error))


def _run_contents(stage: str, root: Path, manifest: Mapping[str, Any]) -> Iterator[Finding]:
    """What the stages without steps (export, report) need in the run folder."""
    made = {name for entry in manifest["steps"].values() for name in entry["outputs"]}
    wanted = {"export": "policy"}.get(stage, "finished step")
    if (stage == "export" and "policy" not in made) or (stage == "report" and not made):
        text = f"stage={stage} needs a run, and {root} holds no {wanted}"
        yield Finding("problem", "inputs", text, f"{command('ares', run=root.name)}, or another run=<name>")


def _read_published(
    config: Config, plan: Sequence[Step], problems: Mapping[str, Problem], splits: Mapping[str, Sequence[str]]
) -> None:
    for step in plan:
        folder = published_of(step, config)
        if folder is None:
            continue
        published_hash(folder)
        for split in (config.evaluate.split,) if step.name == "evaluate" else splits:
            asked = [problems[pid] for pid in splits.get(split, ())]
            if asked:
                read = read_published_answers if step.name == "evaluate" else read_published_rationales
                read(folder, split, asked)
