"""Commands to type, for messages: what the user typed, with a few settings replaced."""

import shlex

from hydra.core.hydra_config import HydraConfig


def typed() -> list[str]:
    """The settings of this process's command line; none outside a run that Hydra started."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def command(stage: str, **settings: str) -> str:
    """`python train.py stage=<stage> …` with everything that was typed besides, and `settings` in its place.

    Outside a run that Hydra started: the stage and `settings` alone.
    """
    replaced = {"stage", "doctor.stage", *settings}
    kept = [override for override in typed() if override.lstrip("+").split("=", 1)[0] not in replaced]
    parts = [f"stage={stage}", *kept, *(f"{key}={value}" for key, value in settings.items())]
    return " ".join(["python train.py", *map(shlex.quote, parts)])
