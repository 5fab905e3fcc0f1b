"""Converts Hydra's composed configuration into typed blocks; finds its files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from ares.config.options import Option
from ares.config.schema import Config

# The groups whose files may have keys of their own, each with its typed block.
OPTIONS: Mapping[str, type[Option]] = {
    item.name: item.type
    for item in fields(Config)
    if isinstance(item.type, type) and issubclass(item.type, Option)
}


@dataclass
class _Composed(Config):
    """The configuration as Hydra composes it: an option has the keys of its file, including its arguments."""

    data: Any = None
    model: Any = None
    features: Any = None
    teacher: Any = None
    engine: Any = None
    strategy: Any = None


@cache
def register_schema() -> None:
    """Stores the typed schema under the name that conf/config.yaml lists first."""
    ConfigStore.instance().store(name="schema", node=_Composed)


def folder() -> Path:
    """The folder of the YAML files: in an installed package, otherwise at the root of the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def options(group: str) -> list[str]:
    """The names of a configuration group's files; while Hydra runs, of its whole search path."""
    if GlobalHydra.instance().is_initialized():
        loader = GlobalHydra.instance().config_loader()
        return loader.get_group_options(group, overrides=_typed_for_hydra())
    return sorted(path.stem for path in (folder() / group).glob("*.yaml"))


def option_file(group: str, option: str) -> DictConfig:
    """The contents of a file that `options` lists."""
    if not GlobalHydra.instance().is_initialized():
        return cast(DictConfig, OmegaConf.load(folder() / group / f"{option}.yaml"))
    loader: Any = GlobalHydra.instance().config_loader()
    _, repository = loader._parse_overrides_and_create_caching_repo(None, _typed_for_hydra())
    return cast(DictConfig, repository.load_config(f"{group}/{option}").config)


def _typed_for_hydra() -> list[str]:
    return list(HydraConfig.get().overrides.hydra) if HydraConfig.initialized() else []


def to_config(cfg: DictConfig | ListConfig) -> Config:
    """The composed configuration, or the output of `to_plain`, as typed blocks.

    Raises OmegaConf's errors for a value of the wrong type and for a broken interpolation.
    """
    plain = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    for group, block in OPTIONS.items():
        plain[group] = _split(block, plain.get(group) or {})
    return cast(Config, OmegaConf.to_object(OmegaConf.merge(_schema(), plain)))


@cache
def _schema() -> DictConfig:
    return cast(DictConfig, OmegaConf.structured(Config))


def to_plain(config: Config) -> dict[str, Any]:
    """The configuration as a mapping with the keys of the command line."""
    plain = asdict(config)
    for group in OPTIONS:
        plain[group].update(plain[group].pop("arguments"))
    return plain


def _split(block: type[Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """An option's values; those that are not fields of its block are moved into `arguments`."""
    names = {item.name for item in fields(block)}
    own = {key: value for key, value in values.items() if key in names}
    rest = {key: value for key, value in values.items() if key not in names}
    known = known_arguments(block)
    if known and block(_target_=own.get("_target_")).is_own:
        checked = {item.name: rest[item.name] for item in fields(known) if item.name in rest}
        typed: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(known), checked))
        rest |= {name: typed[name] for name in checked}
    return {**own, "arguments": {**rest, **own.get("arguments", {})}}


def known_arguments(block: type[Option]) -> type | None:
    """The dataclass of an option's known arguments."""
    return block.__dataclass_fields__["arguments"].metadata.get("known")
