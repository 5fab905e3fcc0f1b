"""Which steps a stage runs, in which order, and where each artefact comes from."""

import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import pytest

from ares.config.compose import options
from ares.config.schema import Config
from ares.pipeline.plan import full_plan, stage_of, stage_steps, steps_of
from ares.steps.common.contract import StepSpec, specs_of
from ares.types import AresError
from tests.support.composed import composed

SFT_1, SFT_2 = "round-1/sft:policy", "round-2/sft:policy"
RATIONALES = {f"rationales-{s}": f"final/generate:rationales-{s}" for s in ("train", "val", "test")}
BASELINE = {name: source.replace("final", "baseline") for name, source in RATIONALES.items()}
# The key of each step, and the step and output that each input comes from.
TWO_ROUNDS = {
    "rationale": {},
    "rationale/assess": {"policy": "rationale:policy"},
    "baseline/generate": {"policy": "rationale:policy"},
    "baseline/lora": {"policy": "rationale:policy", **BASELINE},
    "baseline/evaluate": {
        "predictions": "baseline/lora:predictions",
        "rationales-test": BASELINE["rationales-test"],
    },
    "round-1/rollouts": {"policy": "rationale:policy", "initial": "rationale:policy"},
    "round-1/score": {"rollouts": "round-1/rollouts:rollouts"},
    "round-1/ppo": {
        "policy": "rationale:policy",
        "rollouts": "round-1/rollouts:rollouts",
        "feedback": "round-1/score:feedback",
    },
    "round-1/assess": {"policy": "round-1/ppo:policy"},
    "round-1/generate": {"policy": "round-1/ppo:policy"},
    "round-1/correct": {"rationales": "round-1/generate:rationales"},
    "round-1/sft": {"policy": "round-1/ppo:policy", "corrections": "round-1/correct:corrections"},
    "round-2/rollouts": {"policy": SFT_1, "initial": "rationale:policy"},
    "round-2/score": {"rollouts": "round-2/rollouts:rollouts"},
    "round-2/ppo": {
        "policy": SFT_1,
        "value": "round-1/ppo:value",
        "rollouts": "round-2/rollouts:rollouts",
        "feedback": "round-2/score:feedback",
    },
    "round-2/assess": {"policy": "round-2/ppo:policy"},
    "round-2/generate": {"policy": "round-2/ppo:policy"},
    "round-2/correct": {"rationales": "round-2/generate:rationales"},
    "round-2/sft": {"policy": "round-2/ppo:policy", "corrections": "round-2/correct:corrections"},
    "final/generate": {"policy": SFT_2},
    "final/assess": {"rationales-val": RATIONALES["rationales-val"]},
    "final/lora": {"policy": SFT_2, **RATIONALES},
    "final/evaluate": {
        "predictions": "final/lora:predictions",
        "rationales-test": RATIONALES["rationales-test"],
    },
    "final/judge": {
        "rationales-test": RATIONALES["rationales-test"],
        "baseline/rationales-test": BASELINE["rationales-test"],
    },
}


def demo(*overrides: str) -> Config:
    return composed("experiment=demo", "rounds=2", *overrides)


def wiring(config: Config) -> dict[str, dict[str, str]]:
    return {
        step.key: {name: f"{source.key}:{source.artefact}" for name, source in step.inputs.items()}
        for step in steps_of(config)
    }


def test_wiring_of_two_rounds() -> None:
    assert wiring(demo()) == TWO_ROUNDS
    assert {step.key: step.inputs for step in full_plan(demo())} == {
        step.key: step.inputs for step in steps_of(demo())
    }


STAGES = {
    "rl": ["rationale/assess", "round-1/rollouts", "round-1/score", "round-1/ppo", "round-1/assess"],
    "assess": ["final/assess"],
    "rollout": ["round-1/rollouts"],
    "ppo": ["round-1/ppo"],
    "generate": ["final/generate"],
    "correct": ["round-1/generate", "round-1/correct"],
    "lora": ["final/lora"],
    "judge": ["final/judge"],
    "baseline": ["baseline/generate", "baseline/lora", "baseline/evaluate"],
    **{stage: [] for stage in ("report", "prepare", "export", "doctor", "serve")},
}


@pytest.mark.parametrize("stage", STAGES)
def test_part_of_the_plan_has_the_same_wiring(stage: str) -> None:
    assert wiring(demo(f"stage={stage}")) == {key: TWO_ROUNDS[key] for key in STAGES[stage]}


@pytest.mark.slow
def test_every_planned_step_has_a_stage_of_its_own_that_runs_it() -> None:
    config = demo()
    for step in full_plan(config):
        stage = stage_of(step, config)
        own = [other.key for other in steps_of(demo(f"stage={stage}"))]
        assert step.key in own
        assert (stage == "ares") == (step.round == 2)


def test_judge_compares_the_final_rationales_with_those_it_is_told_to() -> None:
    found = wiring(demo("stage=judge", "judge.split=val"))
    own = {"rationales-val": RATIONALES["rationales-val"]}
    assert found == {"final/judge": {**own, "baseline/rationales-val": BASELINE["rationales-val"]}}
    assert wiring(demo("stage=judge", "judge.split=val", "judge.against=other")) == {"final/judge": own}


def test_judge_compares_on_the_split_that_is_evaluated() -> None:
    assert "rationales-val" in wiring(demo("evaluate.split=val"))["final/judge"]


@pytest.mark.parametrize(
    ("source", "policy", "own"),
    [
        ("all", "rationale", {"rollouts": "round-1/rollouts:rollouts", "feedback": "round-1/score:feedback"}),
        ("corrections", "round-1/ppo", {"corrections": "round-1/correct:corrections"}),
        ("brought", "rationale", {}),
    ],
)
def test_preference_optimization_starts_where_its_pairs_come_from(source, policy, own) -> None:
    assert wiring(demo("stage=preferences", f"pairs.source={source}")) == {
        "round-1/pairs": {"policy": f"{policy}:policy", **own},
        "round-1/prefer": {"policy": f"{policy}:policy", "pairs": "round-1/pairs:pairs"},
    }


@pytest.mark.parametrize(
    "steps", ["rollout,score,pairs,prefer,reward", "sample,selftrain,contrast,rollout,score,pairs,prefer"]
)
def test_pairs_are_made_beside_steps_that_need_none(steps: str) -> None:
    found = wiring(demo("stage=rl", f"stage.steps=[{steps}]"))
    assert found["round-1/prefer"]["pairs"] == "round-1/pairs:pairs"


@pytest.mark.parametrize("settings", [("stage=rl", "stage.steps=[]"), ("stage=ppo", "stage.without=[ppo]")])
def test_stage_without_steps_is_refused(settings: tuple[str, ...]) -> None:
    with pytest.raises(AresError, match=r"stage=\w+ is left without a step; correct stage\.steps"):
        steps_of(demo(*settings))


def test_unknown_step_gets_a_suggestion() -> None:
    with pytest.raises(AresError, match=r"there is no step 'scor' .*Did you mean 'score'\?"):
        steps_of(demo("stage=rl", "stage.steps=[rollout,scor]"))


def test_baseline_can_be_left_out() -> None:
    wanted = {key: inputs for key, inputs in TWO_ROUNDS.items() if not key.startswith("baseline/")}
    against = wiring(demo("baseline=false", "judge.against=other")).pop("final/judge")
    assert against == {"rationales-test": RATIONALES["rationales-test"]}
    del wanted["final/judge"]
    assert wiring(demo("baseline=false")) == wanted
    # Stages without a training of their own run what they list.
    assert set(wiring(demo("baseline=false", "stage=judge"))) == {"final/judge"}
    assert set(wiring(demo("baseline=false", "stage=baseline"))) == set(STAGES["baseline"])


def test_published_answers_replace_what_evaluate_reads_of_a_run() -> None:
    assert wiring(demo("stage=evaluate", "evaluate.predictions=old")) == {"final/evaluate": {}}


def test_named_policy_replaces_fine_tuning_but_not_the_policies_after_it() -> None:
    found = wiring(demo("policy=elsewhere"))
    assert found == {key: inputs for key, inputs in TWO_ROUNDS.items() if key != "rationale"}


def test_only_baseline_and_first_round_are_shared_by_the_jobs_of_a_sweep() -> None:
    shared = [step.key for step in full_plan(demo()) if step.shared]
    baseline = STAGES["baseline"]
    assert shared == ["rationale", "rationale/assess", *baseline, "round-1/rollouts", "round-1/score"]
    named = steps_of(demo("stage=rl", "policy=elsewhere"))
    assert [step.key for step in named if step.shared] == [
        "rationale/assess",
        "round-1/rollouts",
        "round-1/score",
    ]


@pytest.mark.parametrize("stage", options("stage"))
def test_specs_are_consistent(stage: str) -> None:
    """A step is found by its name, and some step of the suite writes each artefact that it reads."""
    specs = specs_of(stage_steps(stage))
    every = specs_of(name for other in options("stage") for name in stage_steps(other))
    written = {artefact for spec in every.values() for artefact in spec.writes} | {"data", "features"}
    for name, spec in specs.items():
        assert spec.name == name
        reads = {
            read.rstrip("?").replace("initial", "policy").rpartition("/")[2]
            for read in spec.reads_of(demo(), spec.place)
        }
        assert reads <= written


# --------------------------------------------------------------------------------------------------
# Steps of other packages
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def filtering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that reads the feedback and writes other feedback."""
    module = ModuleType("filtering")
    module.SPEC = StepSpec("filtering", ("feedback",), ("feedback",), place="round")  # type: ignore[attr-defined]
    package = ModuleType("mine")
    package.__path__ = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", package)
    monkeypatch.setitem(sys.modules, "mine.filtering", module)


def test_step_of_another_package_is_wired_by_name(filtering: None) -> None:
    config = demo("stage.steps=[rationale,rollout,score,mine.filtering,ppo,round/generate,correct,sft]")
    found = wiring(config)
    assert found["round-2/filtering"] == {"feedback": "round-2/score:feedback"}
    assert found["round-2/ppo"] == {**TWO_ROUNDS["round-2/ppo"], "feedback": "round-2/filtering:feedback"}
    alone = wiring(replace(config, stage=replace(config.stage, steps=["mine.filtering"])))
    assert alone == {"round-1/filtering": {"feedback": "round-1/score:feedback"}}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("rolout", r"there is no step 'rolout' \(ares\.steps\.rolout cannot be imported\)"),
        ("mine.absent", r"there is no step 'mine\.absent'"),
        ("rolout,score,filter", r"(?s)there is no step 'rolout'.*there is no step 'filter'"),
    ],
)
def test_unknown_step_is_refused(steps: str, message: str, filtering: None) -> None:
    with pytest.raises(AresError, match=message):
        steps_of(demo(f"stage.steps=[{steps}]"))


def test_artefact_without_writer_is_refused(filtering: None, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = StepSpec("filtering", ("gold",), ("feedback",))
    monkeypatch.setattr(sys.modules["mine.filtering"], "SPEC", spec)
    with pytest.raises(AresError, match=r"final/filtering reads 'gold', which no step before it writes"):
        steps_of(demo("stage.steps=[mine.filtering]"))


def test_reading_the_specs_imports_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "pytorch_lightning", "timm", "wandb", "anthropic", "peft", "pyarrow"]
    code = (
        "import sys; from ares.pipeline.plan import specs_of, stage_steps; from ares.config.compose import options\n"
        "for stage in options('stage'): specs_of(stage_steps(stage))\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
