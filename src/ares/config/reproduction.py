"""The command line that composes a configuration again."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from ares.config.compose import folder, options, register_schema, to_config, to_plain
from ares.config.schema import Config

_GROUPS = ("data", "features", "model", "teacher", "engine", "strategy")
# What has no effect on results, or is another run's own.
_LEFT_OUT = (
    *("stage.name", "stage.steps", "run", "on_change", "paths", "launch", "logger", "sweep"),
    *("doctor", "report", "judge", "export", "serve", "study"),
)
_PLAIN = re.compile(r"[\w./:+-]+")


def reproducing_command(config: Config) -> str:
    """`python train.py stage=ares …` with the options of a configuration, and all settings that differ from theirs.

    Absolute paths, which are those of one machine, become their last part in angle brackets.
    """
    chosen = [
        f"{group}={name}" for group in _GROUPS if (name := getattr(config, group).name) in options(group)
    ]
    defaults = to_plain(to_config(_composed(["stage=ares", *chosen])))
    words = [_word(key, value) for key, value in _different(to_plain(config), defaults)]
    return " ".join(["python train.py stage=ares", *map(shlex.quote, chosen), *words])


def _composed(overrides: list[str]) -> DictConfig:
    if GlobalHydra.instance().is_initialized():
        return compose("config", overrides=overrides)
    register_schema()
    with initialize_config_dir(str(folder()), version_base="1.3"):
        return compose("config", overrides=overrides)


def _different(
    values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """The dotted keys and values of the settings that differ; a + before a key that the defaults lack."""
    for name, value in values.items():
        key, default = f"{prefix}{name}", defaults.get(name)
        if key in _LEFT_OUT or (name in defaults and value == default):
            continue
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            yield from _different(value, default, f"{key}.")
        else:
            yield (key if name in defaults else f"+{key}"), value


def _word(key: str, value: Any) -> str:
    if isinstance(value, str) and Path(value).is_absolute():
        return f"{key}=<{Path(value).name}>"
    return shlex.quote(f"{key}={_typed(value)}")


def _typed(value: Any) -> str:
    """A value as Hydra's grammar has it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_typed(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_typed, value)) + "]"
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        return '"' + value.replace('\\"', '\\\\"').replace('"', '\\"') + '"'
    return value if isinstance(value, str) else json.dumps(value)
