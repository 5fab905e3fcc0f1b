"""Settings of the stages that put a trained model to use: export and serve."""

from dataclasses import dataclass

from ares.config.fields import bounded


@dataclass
class ExportConfig:
    """`push`: the hub id to upload the exported model to, null for none; `license`: its license, as the hub calls it."""

    push: str | None = None
    private: bool = True
    license: str | None = None


@dataclass
class ServeConfig:
    """The page's `port` on this machine, null for a free one from 7860 on; `against`: a run or folder to compare with."""

    port: int | None = bounded(None, at_least=1, at_most=65535)
    against: str | None = None
