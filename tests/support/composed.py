"""The configuration that settings give, as the command line composes it."""

from hydra import compose, initialize_config_dir

from ares.config.compose import folder, register_schema, to_config
from ares.config.schema import Config


def composed(*overrides: str) -> Config:
    """The typed configuration of a command line's settings; nothing is validated."""
    register_schema()
    with initialize_config_dir(str(folder()), version_base="1.3"):
        return to_config(compose("config", overrides=list(overrides)))
