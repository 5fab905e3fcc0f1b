"""The inputs of a stage that earlier stages of its run must have written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ares.config.commands import command
from ares.config.schema import Config
from ares.doctor.findings import Finding, refusals
from ares.original.predictions import read_published_answers, read_published_rationales
from ares.pipeline.manifest import StepEntry, read_manifest
from ares.pipeline.plan import Step, stage_steps, steps_of
from ares.pipeline.runner import run_folder
from ares.pipeline.stale import Run
from ares.types import Problem


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
    run, manifest = Run(root, asked, plan, {}), read_manifest(root)
    yield from _run_contents(config.doctor.stage, root, manifest)
    own = {step.key for step in plan}
    needed = {source: step for step in reversed(plan) for source in step.inputs.values()}
    for source, step in needed.items():
        is_policy = source.artefact == "policy" and (config.policy or source.key == "rationale")
        if source.key not in own and not is_policy:
            yield from refusals("inputs", partial(run.input_of, step, source, manifest))
    for step in plan:
        if not step.spec.asks_teacher:  # `check_teacher` reports on those
            yield from refusals("inputs", partial(step.spec.check, asked))
    yield from refusals("inputs", partial(_read_files, asked, plan, problems, splits))


def _run_contents(stage: str, root: Path, manifest: Mapping[str, StepEntry]) -> Iterator[Finding]:
    """What the stages without steps (export, report) need in the run folder."""
    written = {name for entry in manifest.values() for name in entry.outputs}
    wanted = {"export": "policy"}.get(stage, "finished step")
    if (stage == "export" and "policy" not in written) or (stage == "report" and not written):
        text = f"stage={stage} needs a run, and {root} holds no {wanted}"
        yield Finding("problem", "inputs", text, f"{command('ares', run=root.name)}, or another run=<name>")


def _read_files(
    config: Config, plan: Sequence[Step], problems: Mapping[str, Problem], splits: Mapping[str, Sequence[str]]
) -> None:
    """Raises AresError if a file outside the run is missing or does not fit the problems."""
    for step in plan:
        if "published" not in (files := step.spec.files(config)):
            continue
        folder, _ = files["published"]
        for split in (config.evaluate.split,) if step.name == "evaluate" else splits:
            asked = [problems[pid] for pid in splits.get(split, ())]
            if asked:
                read = read_published_answers if step.name == "evaluate" else read_published_rationales
                read(folder, split, asked)
