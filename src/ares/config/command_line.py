"""Mistakes in a command line's settings, found before Hydra sees them: all at once, each with what to type instead."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ares.config.commands import is_swept
from ares.config.compose import folder, options, register_schema
from ares.config.schema import Config
from ares.config.suggestions import suggest

GROUPS = (
    "stage",
    "data",
    "model",
    "features",
    "teacher",
    "strategy",
    "launch",
    "logger",
    "experiment",
    "sweep",
)
# Free-form blocks: their keys are those of the files of the group.
FREE_FORM = ("data", "model", "features", "teacher", "strategy")
# Hydra's own flags that are followed by a value.
_VALUED = (
    "--cfg",
    "-c",
    "--package",
    "-p",
    "--config-path",
    "-cp",
    "--config-name",
    "-cn",
    "--config-dir",
    "-cd",
    "--experimental-rerun",
)
# One that may be followed by a topic.
_MAYBE_VALUED = ("--info", "-i")
_TOPICS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_SWEEPS = ("-m", "--multirun")


def mistakes_in(arguments: Sequence[str]) -> list[str]:
    """One sentence for each mistake in a command line; none if there is none."""
    is_setting = [
        not argument.startswith("-")
        and before not in _VALUED
        and not (before in _MAYBE_VALUED and argument in _TOPICS)
        for before, argument in zip(["", *arguments], arguments, strict=False)
    ]
    settings = list(itertools.compress(arguments, is_setting))
    if any(argument in ("--shell-completion", "-sc") for argument in arguments):
        return []  # what follows is for the shell
    if sum(key for key, _ in itertools.groupby(is_setting)) > 1:
        return ["Flags such as -m and --cfg come before or after all settings, not between them."]
    found = problems_with(settings)
    if found or any(argument in _SWEEPS for argument in arguments):
        return found
    several = [text for text in settings if is_swept(text)]
    return [f"{text}: several values make a sweep; add -m." for text in several] or _uncomposable(settings)


def _uncomposable(settings: Sequence[str]) -> list[str]:
    # Keys that another choice of their group has; only composing tells.
    register_schema()
    try:
        with initialize_config_dir(str(folder()), version_base="1.3"):
            compose("config", overrides=[text for text in settings if not text.startswith("hydra")])
    except (HydraException, OmegaConfBaseException) as error:
        message = str(error).splitlines()[0].rstrip(".")
        for text in settings:
            group, _, key = text.lstrip("+").split("=", 1)[0].partition(".")
            if f"{group}.{key}" in message and group in FREE_FORM:
                return [f"{text}: the {group} that is chosen has no key {key!r}; see conf/{group}/."]
        return [f"{message}."]
    return []


def _schema_keys(block: Any, prefix: str = "") -> Iterator[str]:
    for item in fields(block):
        value = item.type
        key = prefix + item.name
        yield key
        if isinstance(value, type) and is_dataclass(value):
            yield from _schema_keys(value, key + ".")


def _yaml_values(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield f"{prefix}{name}", value
            yield from _yaml_values(value, f"{prefix}{name}.")


def known_values() -> dict[str, list[Any]]:
    """Every key that an override may name, with the values that the free-form groups' files have for it."""
    found: dict[str, list[Any]] = {key: [] for key in _schema_keys(Config)}
    for group in FREE_FORM:
        for option in options(group):
            path = folder() / group / f"{option}.yaml"
            node = OmegaConf.to_container(OmegaConf.load(path))
            if "@package _global_" in path.read_text():
                node = node[group]  # type: ignore[index, call-overload]
            for key, value in _yaml_values(node, f"{group}."):
                found.setdefault(key, []).append(value)
    return found


def _values(override: Override) -> list[Any]:
    if not override.is_sweep_override():
        return [override.value()]
    if override.is_discrete_sweep():
        return list(override.sweep_iterator())
    interval = override.value()
    return [interval.start, interval.end]  # type: ignore[union-attr]


def _problem_with_group(override: Override) -> str | None:
    group = override.key_or_group
    for value in _values(override):
        names = value if isinstance(value, list) else [value]
        for name in names:
            if name is not None and str(name) not in options(group):
                choices = ", ".join(options(group))
                return f"{group}={name}: there is no such {group}; choose from {choices}.{suggest(str(name), options(group))}"
    return None


def _not_as_the_files_have_it(value: Any, defaults: Sequence[Any]) -> tuple[str, Any] | None:
    """What a value of a free-form key has to be, and the value, where it is not of the kind that the files have."""
    kinds: tuple[tuple[str, tuple[type, ...]], ...] = (
        ("true or false", (bool,)),
        ("a number", (int, float)),
        ("a mapping, {key: value, ...}", (dict,)),
    )
    if isinstance(value, str) and "${" in value:
        return None
    given = [type(default) for default in defaults if default is not None]
    for words, types in kinds:
        if given and all(kind in types for kind in given):
            # null stands for the default of a number; nothing else has one
            right = type(value) in types or (value is None and words == "a number")
            return None if right else (words, value)
    return None


def _problem_with_value(override: Override, defaults: Sequence[Any]) -> str | None:
    key = override.key_or_group
    if key.split(".")[0] in FREE_FORM:
        wrong = (_not_as_the_files_have_it(value, defaults) for value in _values(override))
        return next((f"{key}={value}: it must be {kind}." for kind, value in filter(None, wrong)), None)
    for value in _values(override):
        if isinstance(value, str) and "${" in value:
            continue
        try:
            node = OmegaConf.structured(Config)
            OmegaConf.update(node, key, value)
        except OmegaConfBaseException as error:
            return f"{key}={value}: {str(error).splitlines()[0]}."
    return None


def problems_with(overrides: Sequence[str]) -> list[str]:
    """One sentence for each mistake in a command line's overrides (`key=value`); none if there is none."""
    found: list[str] = []
    known = known_values()
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException:
            found.append(
                f"{text!r} is not of the form key=value.{suggest(text, [f'--{w}' for w in ('help', 'cfg')])}"
            )
            continue
        key = override.key_or_group
        if key.split(".")[0] == "hydra" or key.startswith("hydra/"):
            continue
        if key in GROUPS:
            problem = _problem_with_group(override)
        elif override.is_delete():
            problem = f"{text}: keys cannot be removed; give another value."
        elif key not in known:
            problem = f"{text}: there is no key {key!r}.{suggest(key, [*sorted(known), *GROUPS])}"
        else:
            problem = _problem_with_value(override, known[key])
        if problem:
            found.append(problem)
    return found
