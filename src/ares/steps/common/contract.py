"""The contract of a step: the StepSpec at the top of its file, its argument StepContext and its result StepResult."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Literal

from ares.config.schema import Config
from ares.config.suggestions import suggest
from ares.types import AresError

Place = Literal["start", "baseline", "round", "final"]
_NOT_STEPS = ("export", "report", "doctor", "serve", "study")  # stages may list these, too


@dataclass(frozen=True)
class StepSpec:
    """All that the rest of the suite knows about a step; every step file declares one as `SPEC`.

    name: of the step and of its function
    reads: names of artefacts; each comes from the latest earlier step that writes it. `data` (the problems) and
        `features` come from prepare, `initial` is the first policy of the run, "value?" may be absent, and
        "baseline/predictions" comes from the latest step at that place.
        A function of the configuration and the place if these determine what is read.
    writes: names of the artefacts that the step may return in `StepResult.files`
    settings: keys ("rl.k") and blocks ("text") of the configuration that affect the result; they enter its hash
    runs_on: "device" steps run in one process per device, "host" steps in the orchestrator
    place: where the step runs unless a stage lists it as `<place>/<name>`: at the start, for the baseline (on the
        policy before RL), in every round or at the end
    folder: the step's own folder inside its place; without one it writes into the place's folder
    folder_of: the same by the configuration, for a step that a run has several of
    shared: whether the step runs once for all jobs of a sweep, provided that all its inputs are shared
    wanted: whether a stage that lists the step runs it, with this configuration in this place
    headline: metrics that the step's last line prints; the first few if empty
    after: the step of stage=ares that this one follows in its round where the stage does not list it; without one it
        follows all steps of the round
    files: files outside the run that are set in the configuration, as {input name: (path, sha256)}
    check: returns warnings, and raises AresError for impossible settings; called before anything is prepared, so it
        imports nothing large
    check_data: raises AresError for impossible data; called with the prepared folders by name before the first step
    """

    name: str
    reads: tuple[str, ...] | Callable[[Config, Place], tuple[str, ...]]
    writes: tuple[str, ...]
    settings: tuple[str, ...] = ()
    runs_on: Literal["host", "device"] = "host"
    place: Place = "final"
    folder: str = ""
    folder_of: Callable[[Config], str] | None = None
    shared: bool = False
    wanted: Callable[[Config, Place], bool] = lambda config, place: True
    headline: tuple[str, ...] = ()
    after: Callable[[Config], str | None] = lambda config: None
    files: Callable[[Config], Mapping[str, tuple[Path, str]]] = lambda config: {}
    check: Callable[[Config], Sequence[str]] = lambda config: ()
    check_data: Callable[[Config, Mapping[str, Path]], None] = lambda config, source: None

    @property
    def asks_teacher(self) -> bool:
        """Whether the step sends requests to the Teacher."""
        return "teacher" in self.settings

    def reads_of(self, config: Config, place: Place) -> tuple[str, ...]:
        """The artefacts that the step reads with this configuration in this place."""
        return self.reads(config, place) if callable(self.reads) else self.reads


@dataclass(frozen=True)
class StepContext:
    """One step's view of a run folder.

    `key` identifies the step in the manifest ("round-1/ppo"), `folder` is its output folder, `inputs` maps the names
    of artefacts ("policy", "rollouts", ...) to their paths, `hash` is the hash of settings and inputs. `title` is what the
    console calls it ("step 3 of 10 · ppo").
    """

    root: Path
    key: str
    folder: Path
    round: int
    config: Config
    hash: str
    inputs: Mapping[str, Path] = field(default_factory=dict)
    title: str = ""

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints to resume from; its name has the hash, so that a changed step starts afresh."""
        return self.folder / f".checkpoints-{self.hash[:12]}"

    @property
    def provenance(self) -> dict[str, str]:
        """The metadata of every table that this step writes."""
        return {"ares.step": self.key, "ares.hash": self.hash}


@dataclass(frozen=True)
class StepResult:
    """A step's result: the paths of its artefacts, its final metrics, and the cost of the Teacher (US dollars)."""

    files: Mapping[str, Path]
    metrics: Mapping[str, float] = field(default_factory=dict)
    usd: float = 0.0
    requests: int = 0


def keys_of(block: str, names: str) -> tuple[str, ...]:
    """Dotted keys: `keys_of("rl", "k top_k")` is ("rl.k", "rl.top_k")."""
    return tuple(f"{block}.{name}" for name in names.split())


def specs_of(listed: Iterable[str]) -> dict[str, StepSpec]:
    """The specs, by name, of the steps in a stage's list. Raises AresError with all unknown steps."""
    specs, mistakes = {}, []
    for name in [text.rpartition("/")[2] for text in listed if text not in _NOT_STEPS]:
        try:
            specs[name] = spec_of(name)
        except AresError as error:
            mistakes.append(str(error))
    if mistakes:
        raise AresError("\n".join(mistakes))
    return specs


def spec_of(name: str) -> StepSpec:
    """The spec of a step: `rollout` is in `ares.steps.rollout`, a dotted name is a module path.

    Raises AresError if there is no such module.
    """
    return _module(name).SPEC


def function_of(name: str) -> Callable[[Config, StepContext], StepResult]:
    """The function of a step, which has the step's name."""
    module = _module(name)
    return getattr(module, module.SPEC.name)


def _module(name: str) -> ModuleType:
    path = name if "." in name else f"ares.steps.{name}"
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        known = [file.stem for file in Path(__file__).parents[1].glob("[a-z]*.py")]
        raise AresError(
            f"stage.steps: there is no step {name!r} ({path} cannot be imported).{suggest(name, known)}"
        ) from None
