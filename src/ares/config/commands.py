"""Suggested commands: what the user typed, with a few settings replaced."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

_assumed: list[str] = []


def call(*settings: str) -> str:
    """A command in the form in which this program was called: `ares <settings>` or `python train.py <settings>`."""
    return shlex.join([*_program(), *settings])


def _program() -> list[str]:
    called = Path(sys.argv[0])
    if called.name == "ares":
        return ["ares"]
    if called.parts[-2:] == ("ares", "__main__.py"):
        return ["python", "-m", "ares"]
    return ["python", sys.argv[0] if called.name == "train.py" else "train.py"]


def typed() -> list[str]:
    """The settings of this process's command line; `assumed` ones, or none, if Hydra did not start it."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else list(_assumed)


@contextmanager
def assumed(settings: Sequence[str]) -> Iterator[None]:
    """Suggests commands with these settings, which Hydra has not accepted yet."""
    _assumed[:] = settings
    try:
        yield
    finally:
        _assumed.clear()


def is_sweep() -> bool:
    """Whether this process runs a sweep, not one of its jobs (which have a number)."""
    if not HydraConfig.initialized():
        return False
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and OmegaConf.is_missing(hydra.job, "num")


def is_swept(setting: str) -> bool:
    """Whether a setting has several values."""
    return OverridesParser.create().parse_override(setting).is_sweep_override()


def command(stage: str | None = None, **settings: str) -> str:
    """`<program> stage=<stage> …` with the other settings that were typed, and `settings` replaced.

    Swept settings are left out. Without a stage it is the command that was typed, its sweep included; an option that
    `settings` choose then replaces the typed settings of its group, too. If Hydra did not start this process: only the
    stage and `settings`.
    """
    replaced = {"stage", "doctor.stage", *settings} if stage else settings
    kept = [text for text in typed() if _key(text) not in replaced]
    if stage is None:
        kept = [text for text in kept if _group(text) not in replaced]
    elif is_sweep():
        kept = [text for text in kept if _group(text) != "sweep" and not is_swept(text)]
    first = [f"stage={stage}"] if stage else ["-m"] if is_sweep() else []
    return call(*first, *kept, *(setting_of(key, value) for key, value in settings.items()))


def setting_of(key: str, value: str) -> str:
    """A setting in Hydra's syntax, with quotes if it would otherwise be refused, a sweep or another number."""
    text = f"{key}={value}"
    try:
        found = OverridesParser.create().parse_override(text)
        number = isinstance(found.value(), int | float) and not isinstance(found.value(), bool)
        if not found.is_sweep_override() and not (number and str(found.value()) != value):
            return text
    except HydraException:
        pass
    escaped = value.replace('"', '\\"')
    return f'{key}="{escaped}"'


def _key(override: str) -> str:
    return override.lstrip("+").split("=", 1)[0]


def _group(override: str) -> str:
    return _key(override).split(".")[0]
