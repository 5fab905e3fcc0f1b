"""A step's hash holds exactly what the step reads: observed on a tiny run, not compared with a list."""

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ares.config.schema import Config
from ares.evaluation.checkers import CHECKERS
from ares.pipeline import runner
from ares.pipeline.manifest import StepEntry, read_manifest
from ares.pipeline.plan import Step, steps_of
from ares.pipeline.stale import Run
from ares.steps.common.contract import Place, StepContext, StepResult, function_of, spec_of
from ares.steps.prepare import prepared
from ares.types import AresError
from tests.support.checking import by_text
from tests.support.composed import composed
from tests.support.recording import RecordedDict, recorded, settings

pytestmark = pytest.mark.slow

# Where and how a run is computed, which does not change its results; and paths of files whose contents are inputs.
NOT_HASHED = (
    *(
        "paths",
        "run",
        "on_change",
        "rounds",
        "baseline",
        "policy",
        "stage",
        "doctor",
        "report",
        "logger",
        "sweep",
        "export",
        "serve",
        "study",
    ),
    *("strategy", "trainer.devices", "trainer.num_nodes", "trainer.accelerator", "trainer.threads"),
    "engine.arguments",  # where servers are and how often they are asked
    *("trainer.activation_checkpointing", "trainer.checkpoint_minutes"),
    *("generate.predictions", "evaluate.predictions", "judge.against", "select.reward"),
)
# In the hash as inputs or, of the Teacher, by its fingerprint; the model's name is a label.
BLOCKS = ("data", "features", "teacher", "model.reads_images", "model.name")
OTHER = {
    "evaluate.split": "val",
    "judge.split": "val",
    "select.by": ["first", "self_select", "teacher", "steps"],
}
TINY = (
    "experiment=demo",
    "data=scienceqa",
    "teacher=overlap",
    "features=none",
    "stage.steps=[rationale,start/assess,baseline/generate,baseline/lora,baseline/evaluate,rollout,score,ppo,round/assess,round/generate,correct,sft,"
    "final/generate,final/assess,lora,evaluate]",
    *("model.d_model=16", "model.d_ff=16", "model.d_kv=8", "model.layers=1", "model.heads=2"),
    *("rationale.epochs=1", "rationale.eval_every_epochs=1", "sft.epochs=1", "lora.epochs=1"),
    *("rl.questions=4", "rl.k=2", "rl.ppo_epochs=1", "rl.eval_questions=2", "rl.max_new_tokens=12"),
    *("rl.holdout=0.5", "rl.global_batch_size=4", "rl.micro_batch_size=4", "generate.max_new_tokens=12"),
    *("teacher.max_quarantine=1", "correct.on_quarantine=keep_own"),
)
# Everything that self-training and selection can ask.
SELFTRAIN = (
    "stage=selftrain",
    "stage.steps=[warmup,sample,rate,selftrain,final/generate,lora,candidates,self_select,final/rate,search,select]",
    *("selftrain.iterations=1", "selftrain.filter=sentences", "selftrain.threshold=0", "select.n=[1,8]"),
    *("select.by=[first,self_select,teacher,steps,repair]", "select.answers=adapter"),
)
PREFER = ("prefer.holdout=0", "prefer.micro_batch_size=1", "prefer.global_batch_size=2")


class Observed:
    """The settings and inputs that each step has read, by the step's name."""

    def __init__(self) -> None:
        self.settings: dict[str, set[str]] = defaultdict(set)
        self.inputs: dict[str, set[str]] = defaultdict(set)

    def function_of(self, name: str) -> Any:
        """The step's function, with a configuration and inputs that record what is read."""

        def step(config: Config, context: StepContext) -> StepResult:
            config = recorded(config, self.settings[name])
            inputs = RecordedDict(context.inputs, self.inputs[name])
            return function_of(name)(config, replace(context, config=config, inputs=inputs))

        return step


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Observed, dict[str, Config]]:
    """A run of two rounds, a round with PPO on an adapter, a comparison with the baseline, and self-training."""
    from ares.data.sample import write_sample

    tmp_path = tmp_path_factory.mktemp("stale")
    write_sample(tmp_path / "data", sizes={"train": 6, "val": 2, "test": 2}, seed=0)
    common = (*TINY, f"data.root={tmp_path}/data", f"paths.runs={tmp_path}/runs")
    configs = {
        "full": composed(*common, "rounds=2", "run=full"),
        "adapter": composed(*common, "stage=rl", "stage.steps=[rollout,score,ppo]", "run=adapter", "policy=full", "rl.lora.r=2"),
        "judged": composed(*common, "stage=judge", "stage.steps=[judge]", "run=full"),
        "pairs": composed(*common, "stage=prefer", "stage.steps=[rollout,score,pairs,prefer]", "run=pairs", "policy=full", "rl.k=4", *PREFER),
        **{
            loss: composed(*common, "stage=preferences", "stage.steps=[round/generate,correct,pairs,prefer]", f"run={loss}", "policy=full", "pairs.source=corrections", f"prefer.loss={loss}", *PREFER)
            for loss in ("ddpo", "kto")
        },
        "selftrained": composed(*common, *SELFTRAIN, "run=selftrained"),
        "contrasted": composed(*common, *SELFTRAIN, "stage.steps=[sample,rate,contrast]", "selftrain.method=star_dpo", "run=contrasted", "policy=selftrained"),
    }  # fmt: skip
    observed = Observed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "function_of", observed.function_of)
        patch.setitem(CHECKERS, "mcq", by_text)
        for config in configs.values():
            runner.run_stage(config)
    return observed, configs


def test_hash_has_exactly_the_settings_that_the_step_reads(
    runs: tuple[Observed, dict[str, Config]],
) -> None:
    observed, configs = runs
    wrong = {}
    for key, value in settings(configs["full"]):
        if key.startswith((*NOT_HASHED, *BLOCKS)):
            continue
        stale = {
            name for config in configs.values() for name in stale_steps(config, key, OTHER.get(key, value))
        }
        read = {name for name, keys in observed.settings.items() if reads(keys, key)}
        if stale != read:
            wrong[key] = {"read but not hashed": read - stale, "hashed but not read": stale - read}
    assert not wrong


def test_steps_declare_exactly_the_inputs_that_they_read(runs: tuple[Observed, dict[str, Config]]) -> None:
    observed, configs = runs
    for config in configs.values():
        for key, entry in read_manifest(runner.run_folder(config)).items():
            name = next((step.name for step in steps_of(config) if step.key == key), None)
            if name:
                # judge finds the other rationales by its setting
                assert set(entry.inputs) - {"against"} <= observed.inputs[name], key
    for name, inputs in observed.inputs.items():
        places: tuple[Place, ...] = ("start", "round", "final")
        reads_of = [spec_of(name).reads_of(config, place) for config in configs.values() for place in places]
        declared = {read.rstrip("?") for reads in reads_of for read in reads}
        assert inputs <= declared | {"published"}, name


def test_steps_that_read_the_teacher_or_features_declare_it(runs: tuple[Observed, dict[str, Config]]) -> None:
    observed, configs = runs
    for name, keys in observed.settings.items():
        declared = spec_of(name).reads_of(configs["full"], "round")
        assert reads(keys, "teacher") == spec_of(name).asks_teacher, name
        assert not reads(keys, "features") or "features" in declared, name
        assert not reads(keys, "data") or "data" in declared, name


def reads(keys: set[str], setting: str) -> bool:
    return any(key == setting or key.startswith(f"{setting}.") for key in keys)


def stale_steps(config: Config, key: str, other: Any) -> set[str]:
    """The names of the steps of a finished run whose hash differs once a setting has another value."""
    changed = with_other(config, key, other)
    manifest = read_manifest(runner.run_folder(config))
    run = Run(runner.run_folder(config), changed, steps_of(changed), prepared(config, make=False))
    return {step.name for step in run.steps if _differs(run, step, manifest)}


def _differs(run: Run, step: Step, manifest: Mapping[str, StepEntry]) -> bool:
    try:
        return run.fingerprint(step).hash != manifest[step.key].hash
    except AresError as error:
        if "needs" not in str(error):
            raise
        return True  # with the other value it reads what no step has written


def with_other(config: Config, key: str, value: Any) -> Config:
    """The configuration with another value for a setting than it has; `value` itself where that is another one."""
    changed = copy.deepcopy(config)
    *path, name = key.split(".")
    block: Any = changed
    for part in path:
        block = getattr(block, part)
    values = block if isinstance(block, dict) else vars(block)
    values[name] = another(value) if values[name] == value else value
    return changed


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else "another"


def test_changed_data_makes_every_step_stale(
    runs: tuple[Observed, dict[str, Config]], tmp_path: Path
) -> None:
    _, configs = runs
    config = copy.deepcopy(configs["full"])
    root = Path(config.data.root or "")
    text = (root / "pid_splits.json").read_text()
    for file in root.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "pid_splits.json").write_text(text + "\n")
    config.data.root = str(tmp_path)
    run = Run(runner.run_folder(config), config, steps_of(config), {"data": tmp_path})
    manifest = read_manifest(run.root)
    assert all(run.fingerprint(step).hash != manifest[step.key].hash for step in run.steps)
