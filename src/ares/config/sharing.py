"""Settings of the stages that are not a list of steps: doctor, export, serve and study."""

from dataclasses import dataclass, field
from typing import Any

from ares.config.fields import bounded, file_of


@dataclass
class DoctorConfig:
    """Whether a run can work on this machine."""

    stage: str = file_of("stage", "ares")  # that stage=doctor examines


@dataclass
class ExportConfig:
    """What stage=export does with the folder that answers questions (docs/use.md)."""

    push: str | None = None  # the id on the hub to upload it to, null for none
    private: bool = True  # whether a repository that this creates is private
    license: str | None = None  # the model's license in its card, as the hub calls it


@dataclass
class ServeConfig:
    """The page of stage=serve (docs/use.md)."""

    port: int | None = bounded(None, at_least=1, at_most=65535)  # null for a free one from 7860 on
    against: str | None = None  # another run, or an exported folder, to show next to the run


@dataclass
class StudyConfig:
    """stage=study runs stage=ares for each of the `arms` (settings by name) with several seeds (docs/results.md)."""

    arms: dict[str, dict[str, Any]] = field(default_factory=dict)  # settings by the name of the arm
    seeds: int = bounded(1, at_least=1)  # how many, from `seed` on
    workers: int = bounded(1, at_least=1)  # jobs at a time
    published: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # by source: decided and accuracy, as text
