"""stage=doctor: whether a run can work on this machine, what it needs, and what to do if it cannot."""

from ares.config.schema import Config
from ares.doctor.artefacts import check_checkpoints, check_data, check_features
from ares.doctor.findings import Finding
from ares.doctor.machine import (
    check_devices,
    check_disk,
    check_environment,
    check_keys,
    check_ledger,
)
from ares.doctor.memory import check_memory
from ares.doctor.requirements import disk_of_features
from ares.doctor.teacher import check_teacher
from ares.doctor.upstream import asked_run, check_inputs
from ares.pipeline.plan import stage_steps, steps_of


def doctor(config: Config) -> list[str]:
    """The findings on a run of `doctor.stage` as lines; prints them and exits with code 1 if it cannot work."""
    findings = examine(config)
    asked = f"stage={config.doctor.stage} data={config.data.name} model={config.model.name}"
    count = sum(finding.status == "problem" for finding in findings)
    verdict = f"{asked}: {count} problem{'s' if count > 1 else ''}." if count else f"{asked} can run here."
    lines = [*map(str, findings), verdict]
    if count:
        print("\n".join(lines))
        raise SystemExit(1)
    return lines


def examine(config: Config) -> list[Finding]:
    """All findings, from the machine to the money."""
    steps = stage_steps(config.doctor.stage)
    asking = [step.spec.name for step in steps_of(asked_run(config)) if step.spec.asks_teacher]
    problems, splits, data = check_data(config, steps)
    features, patch_dim = check_features(config, problems, steps)
    to_extract = "prepare" in steps and patch_dim is None and config.features._target_ is not None
    return [
        *check_environment(),
        *check_devices(config, steps),
        *check_keys(config, asking),
        *data,
        *features,
        *check_checkpoints(config, steps, patch_dim),
        *check_inputs(config, problems, splits),
        *check_memory(config, steps),
        *check_disk(config, steps, disk_of_features(config, problems) if to_extract else 0.0),
        *check_ledger(config, asking),
        *check_teacher(config, list(dict.fromkeys(asking)), problems, splits),
    ]
