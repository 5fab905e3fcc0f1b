"""Which steps a stage runs, in which order, and which earlier step each artefact comes from.

A step reads an artefact from the latest step before it that writes it. "Before" means earlier in the stage or, for
what the stage does not make itself, earlier in the plan of `stage=ares`, of which most stages are parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from omegaconf import OmegaConf

from ares.config.compose import folder, options
from ares.config.schema import Config
from ares.steps.common.contract import Place, StepSpec, specs_of
from ares.types import AresError

_LAST = 1_000_000  # the order of final steps: after any round
PREPARED = ("data", "features")


@dataclass(frozen=True)
class Source:
    """Where an input comes from: the key of a step and the name of one of its outputs."""

    key: str
    artefact: str


@dataclass(frozen=True)
class Step:
    """One planned step. `name` is the stage's word for it, `key` the manifest's; `place` is "final" or "round-1"."""

    name: str
    spec: StepSpec
    place: str
    order: int  # 0 at the start, a round's number, _LAST at the end
    inputs: dict[str, Source] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What identifies the step in a run: `rationale`, `round-1/score`, `final/lora`."""
        return "/".join(filter(None, (self.place, self.spec.folder or self.spec.name)))

    @property
    def folder(self) -> str:
        """The folder, inside the run folder, that the step writes to."""
        return "/".join(filter(None, (self.place, self.spec.folder)))

    @property
    def round(self) -> int:
        """The number of the step's round, 0 outside the rounds."""
        return self.order if self.place.startswith("round") else 0

    @property
    def shared(self) -> bool:
        """Whether the jobs of a sweep run the step once for all: later rounds follow from what each job trained."""
        return self.spec.shared and self.order <= 1


def stage_steps(stage: str) -> list[str]:
    """The steps that a stage's file lists; raises AresError where there is no such stage."""
    if stage not in options("stage"):
        raise AresError(f"There is no stage {stage!r}; choose from {', '.join(options('stage'))}.")
    loaded = OmegaConf.load(Path(folder()) / "stage" / f"{stage}.yaml")
    return list(loaded.steps)


def full_plan(config: Config) -> list[Step]:
    """All steps of `stage=ares`, in order, with all rounds."""
    steps = _arranged(stage_steps("ares"), config.rounds)
    return [_wired(step, steps[:number], config) for number, step in enumerate(steps)]


def steps_of(config: Config) -> list[Step]:
    """The steps of the configured stage, in order; with `policy=` nothing is fine-tuned to replace it.

    A stage that begins at the start runs all rounds, any other the first.
    """
    names = list(config.stage.steps)
    begins = any("start" in spec.places for spec in specs_of(names).values())
    steps = _arranged(names, config.rounds if begins else 1)
    plan = full_plan(config)
    wired = [_wired(step, [*_before(plan, step), *steps[:n]], config) for n, step in enumerate(steps)]
    return [step for step in wired if not (config.policy and "start" in step.spec.places)]


def stage_of(step: Step, config: Config) -> str:
    """The stage with the fewest steps that runs a step."""
    lists = {stage: stage_steps(stage) for stage in options("stage")}
    for stage in sorted(lists, key=lambda name: len(lists[name])):
        asked = replace(config, policy=None, stage=replace(config.stage, name=stage, steps=lists[stage]))
        if step.key in [other.key for other in steps_of(asked)]:
            return stage
    return config.stage.name


def _arranged(names: Sequence[str], rounds: int) -> list[Step]:
    """The steps of a list in the order in which they run: the start's, those of each round, the final ones."""
    specs = list(specs_of(names).items())
    placed: dict[Place, list[tuple[str, StepSpec]]] = {"start": [], "round": [], "final": []}
    for number, (name, spec) in enumerate(specs):
        for place in _places(spec, [later for _, later in specs[number + 1 :]]):
            placed[place].append((name, spec))
    return [
        *(Step(name, spec, "", 0) for name, spec in placed["start"]),
        *(
            Step(name, spec, f"round-{number}", number)
            for number in range(1, rounds + 1)
            for name, spec in placed["round"]
        ),
        *(Step(name, spec, "final", _LAST) for name, spec in placed["final"]),
    ]


def _places(spec: StepSpec, later: Sequence[StepSpec]) -> list[Place]:
    """Where a step runs: in each of its places that has a later step; if none has, in its last place."""
    needed = {other.places[0] for other in later if len(other.places) == 1}
    return [place for place in spec.places if place in needed] or list(spec.places[-1:])


def _before(plan: Sequence[Step], step: Step) -> list[Step]:
    """The steps of the plan that come before a step, which need not be in the plan itself."""
    keys = [other.key for other in plan]
    if step.key in keys:
        return list(plan[: keys.index(step.key)])
    return [other for other in plan if other.order <= step.order]


def _wired(step: Step, before: Sequence[Step], config: Config) -> Step:
    inputs = {}
    for read in step.spec.reads_of(config):
        name = read.rstrip("?")
        if name in PREPARED:
            continue
        artefact = "policy" if name == "initial" else name
        makers = [other for other in before if artefact in other.spec.writes]
        if makers:
            inputs[name] = Source(makers[0 if name == "initial" else -1].key, artefact)
        elif name == read:
            raise AresError(
                f"{step.key} reads {name!r}, which no step before it writes; see docs/extending.md."
            )
    return replace(step, inputs=inputs)
