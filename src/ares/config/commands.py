"""Suggested commands: what the user typed, with a few settings replaced."""

import shlex

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf


def typed() -> list[str]:
    """The settings of this process's command line; empty if Hydra did not start it."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def is_sweep() -> bool:
    """Whether this process runs a sweep, not one of its jobs (which have a number)."""
    if not HydraConfig.initialized():
        return False
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and OmegaConf.is_missing(hydra.job, "num")


def is_swept(setting: str) -> bool:
    """Whether a setting has several values."""
    return OverridesParser.create().parse_override(setting).is_sweep_override()


def command(stage: str, **settings: str) -> str:
    """`python train.py stage=<stage> …` with the other settings that were typed, and `settings` replaced.

    Swept settings are left out. If Hydra did not start this process: only the stage and `settings`.
    """
    replaced = {"stage", "doctor.stage", *settings}
    kept = [override for override in typed() if _key(override) not in replaced]
    if is_sweep():
        kept = [o for o in kept if _key(o).split(".")[0] != "sweep" and not is_swept(o)]
    parts = [f"stage={stage}", *kept, *(f"{key}={value}" for key, value in settings.items())]
    return " ".join(["python train.py", *map(shlex.quote, parts)])


def _key(override: str) -> str:
    return override.lstrip("+").split("=", 1)[0]
