"""What a step is given (`Run`) and what it returns (`StepResult`): every step is a function (config, context) -> outputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ares.config.schema import Config


@dataclass(frozen=True)
class StepContext:
    """A run folder as one step sees it.

    `key` names the step in the manifest ("round-1/ppo"), `folder` is where it writes, `inputs` maps the names
    of upstream artefacts ("policy", "rollouts", ...) to their paths, `hash` is the hash of configuration and inputs.
    """

    root: Path
    key: str
    folder: Path
    round: int
    config: Config
    hash: str
    inputs: Mapping[str, Path] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        """Where the step keeps what it resumes from; named by its hash, so that a changed step starts afresh."""
        return self.folder / f".checkpoints-{self.hash[:12]}"

    @property
    def provenance(self) -> dict[str, str]:
        """What every table of this step carries in its metadata."""
        return {"ares.step": self.key, "ares.hash": self.hash}


@dataclass(frozen=True)
class StepResult:
    """What a step made: artefacts by name, final figures by name, and what the Teacher cost (US dollars)."""

    files: Mapping[str, Path]
    metrics: Mapping[str, float] = field(default_factory=dict)
    usd: float = 0.0
    requests: int = 0
