"""Which steps a stage runs, in which order, and which earlier step each artefact comes from.

A step reads an artefact from the latest step before it that writes it. "Before" means earlier in the stage or, if no
step of the stage writes the artefact, earlier in the plan of `stage=ares`, of which most stages are parts.
"baseline/predictions" is what the latest step at that place wrote.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

from ares.config.compose import option_file, options
from ares.config.schema import Config
from ares.steps.common.contract import Place, StepSpec, specs_of
from ares.types import AresError

PREPARED = ("data", "features")
_LAST = 1_000_000  # the order of final steps: after any round


@dataclass(frozen=True)
class Source:
    """Where an input comes from: the key of a step and the name of one of its outputs."""

    key: str
    artefact: str


@dataclass(frozen=True)
class Step:
    """One planned step. `name` is its name in the stage's list."""

    name: str
    spec: StepSpec
    place: Place
    order: int  # 0 at the start, a round's number, _LAST at the end
    inputs: dict[str, Source] = field(default_factory=dict)
    shared: bool = False  # whether the jobs of a sweep run it once for all

    @property
    def round(self) -> int:
        """The number of the step's round, 0 outside the rounds."""
        return self.order if self.place == "round" else 0

    @property
    def _place_folder(self) -> str:
        return {"start": "rationale", "round": f"round-{self.order}"}.get(self.place, self.place)

    @property
    def key(self) -> str:
        """Identifies the step in a run: `rationale`, `round-1/score`, `final/lora`."""
        name = self.spec.folder or self.spec.name
        return name if name == self._place_folder else f"{self._place_folder}/{name}"

    @property
    def folder(self) -> str:
        """The folder, inside the run folder, that the step writes to."""
        return "/".join(filter(None, (self._place_folder, self.spec.folder)))


def stage_steps(stage: str) -> list[str]:
    """The steps that a stage's file lists. Raises AresError for an unknown stage."""
    if stage not in options("stage"):
        raise AresError(f"There is no stage {stage!r}; choose from {', '.join(options('stage'))}.")
    return list(option_file("stage", stage).steps)


def full_plan(config: Config) -> list[Step]:
    """All steps of `stage=ares`, in order, with all rounds and the baseline."""
    return _wired(_arranged(stage_steps("ares"), config, config.rounds), [], config)


def steps_of(config: Config) -> list[Step]:
    """The steps of the configured stage, in order; with `policy=` the first fine-tuning is left out.

    A stage that trains a policy at the start runs all rounds (`stage.rounds` or `rounds`), any other stage the first. With
    `baseline=false` such a stage leaves out the baseline and what is compared with it, and any stage the steps in
    `stage.without`. Raises AresError if none is left, or one is unknown.
    """
    begins = any(_is_start(spec) for spec in specs_of(config.stage.steps).values())
    rounds = (config.stage.rounds or config.rounds) if begins else 1
    listed = [text for text in config.stage.steps if text not in config.stage.without]
    if not listed:
        raise AresError(
            f"stage={config.stage.name} is left without a step; correct stage.steps and stage.without."
        )
    steps = _arranged(listed, config, rounds)
    wired = _wired(steps, full_plan(config), config)
    if begins and not config.baseline:
        wired = [step for step in wired if not _needs_baseline(step)]
    return [step for step in wired if not (config.policy and _is_start(step.spec))]


def _needs_baseline(step: Step) -> bool:
    return step.place == "baseline" or any(name.startswith("baseline/") for name in step.inputs)


def _is_start(spec: StepSpec) -> bool:
    return spec.place == "start" and "policy" in spec.writes


def stage_of(step: Step, config: Config) -> str:
    """The stage with the fewest steps that runs a step."""
    lists = {stage: stage_steps(stage) for stage in options("stage")}
    for stage in sorted(lists, key=lambda name: len(lists[name])):
        asked = replace(config, policy=None, stage=replace(config.stage, name=stage, steps=lists[stage]))
        if step.key in [other.key for other in steps_of(asked)]:
            return stage
    return config.stage.name


def _arranged(listed: Sequence[str], config: Config, rounds: int) -> list[Step]:
    """The wanted steps of a list in the order in which they run: at the start, in each round, at the end."""
    specs = {
        name: replace(spec, folder=spec.folder_of(config)) if spec.folder_of else spec
        for name, spec in specs_of(listed).items()
    }
    placed: dict[str, list[str]] = {place: [] for place in get_args(Place)}
    for text in listed:
        place, _, name = text.rpartition("/")
        if name in specs and name != "prepare":
            placed[place or specs[name].place].append(name)
    orders: list[tuple[Place, int]] = [
        ("start", 0),
        ("baseline", 0),
        *(("round", n + 1) for n in range(rounds)),
        ("final", _LAST),
    ]
    return [
        Step(name, specs[name], place, order)
        for place, order in orders
        for name in placed[place]
        if specs[name].wanted(config, place)
    ]


def _before(plan: Sequence[Step], step: Step, config: Config) -> list[Step]:
    """The steps of the plan that come before a step, which need not be in the plan itself."""
    keys = [other.key for other in plan]
    if step.key in keys:
        return list(plan[: keys.index(step.key)])
    earlier = [other for other in plan if other.order <= step.order]
    places = [place for place, other in enumerate(earlier) if other.name == step.spec.after(config)]
    return earlier[: places[-1] + 1] if places else earlier


def _wired(steps: Sequence[Step], plan: Sequence[Step], config: Config) -> list[Step]:
    """The steps with their inputs, from the steps before them in the list or, failing that, in the plan."""
    found: list[Step] = []
    for step in steps:
        before = [*_before(plan, step, config), *found]
        inputs = {}
        for read in step.spec.reads_of(config, step.place):
            name = read.rstrip("?")
            place, _, artefact = ("", "", "policy") if name == "initial" else name.rpartition("/")
            makers = [o for o in before if artefact in o.spec.writes and place in ("", o.place)]
            if makers:
                inputs[name] = Source(makers[0 if name == "initial" else -1].key, artefact)
            elif name == read and name not in PREPARED:
                raise AresError(
                    f"{step.key} reads {name!r}, which no step before it writes; see docs/extending.md."
                )
        common = {other.key for other in before if other.shared}
        shared = step.spec.shared and all(source.key in common for source in inputs.values())
        found.append(replace(step, inputs=inputs, shared=shared))
    return found
