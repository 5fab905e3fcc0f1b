"""The configuration that settings give, as the command line composes it, and what settings there are."""

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ares.config.compose import OPTIONS, folder, register_schema, to_config, to_plain
from ares.config.schema import Config


def composed(*overrides: str, runs: Path | None = None) -> Config:
    """The typed configuration of a command line's settings; nothing is validated.

    A folder of `runs` is put in afterwards, because equal settings are composed once.
    """
    config = copy.deepcopy(_composed(overrides))
    if runs is not None:
        config.paths.runs, config.paths.ledger = str(runs), str(runs / "ledger.sqlite")
    return config


@functools.cache
def _composed(overrides: tuple[str, ...]) -> Config:
    register_schema()
    with initialize_config_dir(str(folder()), version_base="1.3"):
        return to_config(compose("config", list(overrides)))


def groups() -> list[str]:
    """The configuration groups: the folders of conf/."""
    return sorted(path.name for path in folder().iterdir() if path.is_dir())


def known_keys() -> set[str]:
    """Every key that the schema or a file of an open group has."""
    found = set(_keys(to_plain(Config())))
    for group in OPTIONS:
        for path in (folder() / group).glob("*.yaml"):
            node = OmegaConf.to_container(OmegaConf.load(path))
            found |= set(_keys(node if "@package _global_" in path.read_text() else {group: node}))
    return found


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for name, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{name}"
        yield from _keys(value, f"{prefix}{name}.")
