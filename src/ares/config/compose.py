"""How Hydra's composed configuration becomes typed blocks, and where its files are."""

from pathlib import Path
from typing import cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from ares.config.schema import Config


def register_schema() -> None:
    """Stores the typed schema under the name that conf/config.yaml lists first."""
    ConfigStore.instance().store(name="schema", node=Config)


def folder() -> Path:
    """The folder of YAML files: inside an installed package, else at the root of the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def to_config(cfg: DictConfig) -> Config:
    """The composed configuration as typed blocks; free-form blocks become plain dictionaries."""
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[assignment]
    typed = OmegaConf.merge(OmegaConf.structured(Config), cfg)
    return cast(Config, OmegaConf.to_object(typed))


def options(group: str) -> list[str]:
    """The files of a configuration group, without their ending."""
    return sorted(path.stem for path in (folder() / group).glob("*.yaml"))
