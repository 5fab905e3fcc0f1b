"""What each step reads and writes, which steps a stage runs, and what a step's result depends on."""

from dataclasses import fields, replace

import pytest

from ares.config.compose import options
from ares.config.schema import Config, RlConfig
from ares.pipeline.plan import JUDGE, full_plan, select, settings_of
from tests.support.composed import composed

FINAL = {f"rationales-{split}": f"final/rationales-{split}.parquet" for split in ("train", "val", "test")}
FIRST, SECOND = "round-1/sft/policy", "round-2/sft/policy"
# The key of a step, and where what it reads lies in the run folder.
TWO_ROUNDS = {
    "rationale": {},
    "rationale/assess": {"policy": "rationale/policy"},
    "round-1/rollouts": {"policy": "rationale/policy", "initial": "rationale/policy"},
    "round-1/score": {"rollouts": "round-1/rollouts"},
    "round-1/ppo": {
        "policy": "rationale/policy",
        "rollouts": "round-1/rollouts",
        "feedback": "round-1/feedback.parquet",
    },
    "round-1/assess": {"policy": "round-1/ppo/policy"},
    "round-1/generate": {"policy": "round-1/ppo/policy"},
    "round-1/correct": {"rationales": "round-1/rationales-train.parquet"},
    "round-1/sft": {"policy": "round-1/ppo/policy", "corrections": "round-1/corrections.parquet"},
    "round-2/rollouts": {"policy": FIRST, "initial": "rationale/policy"},
    "round-2/score": {"rollouts": "round-2/rollouts"},
    "round-2/ppo": {
        "policy": FIRST,
        "value": "round-1/ppo/value",
        "rollouts": "round-2/rollouts",
        "feedback": "round-2/feedback.parquet",
    },
    "round-2/assess": {"policy": "round-2/ppo/policy"},
    "round-2/generate": {"policy": "round-2/ppo/policy"},
    "round-2/correct": {"rationales": "round-2/rationales-train.parquet"},
    "round-2/sft": {"policy": "round-2/ppo/policy", "corrections": "round-2/corrections.parquet"},
    "final/generate": {"policy": SECOND},
    "final/assess": {"rationales-val": FINAL["rationales-val"]},
    "final/lora": {"policy": SECOND, **FINAL},
    "final/evaluate": {**FINAL, "predictions": "final/lora/predictions.jsonl"},
}


def demo(*overrides: str) -> Config:
    return composed("experiment=demo", *overrides)


def test_every_step_reads_what_the_ones_before_it_wrote() -> None:
    plan = full_plan(2)
    assert {step.key: dict(step.inputs) for step in plan} == TWO_ROUNDS
    written: set[str] = set()
    for step in plan:
        assert set(step.inputs.values()) <= written
        written |= set(step.outputs.values())


ROUND = ["round-1/rollouts", "round-1/score", "round-1/ppo"]
STAGES = {
    "ares": list(TWO_ROUNDS),
    "rl": ["rationale/assess", *ROUND, "round-1/assess"],
    "rationale": ["rationale"],
    "rollout": ROUND[:1],
    "score": ROUND[1:2],
    "ppo": ROUND[2:],
    "generate": ["final/generate"],
    "correct": ["round-1/generate", "round-1/correct"],
    "sft": ["round-1/sft"],
    "assess": ["final/assess"],
    "lora": ["final/lora"],
    "evaluate": ["final/evaluate"],
    "judge": ["final/judge"],
    **{stage: [] for stage in ("report", "prepare", "export", "doctor")},
}


def test_every_stage_is_listed_here() -> None:
    assert set(STAGES) == set(options("stage"))


@pytest.mark.parametrize("stage", STAGES)
def test_the_steps_of_a_stage(stage: str) -> None:
    names = list(demo(f"stage={stage}").stage.steps)
    assert [step.key for step in select(full_plan(2), stage, names)] == STAGES[stage]


# What the paths of rollouts depend on; all else in the block belongs to ppo.
ROLLOUT = {"questions", "k", "top_k", "top_p", "temperature", "max_new_tokens"} | {
    "questions_per_part",
    "generation_batch",
    "reference",
}


@pytest.mark.parametrize("name", [field.name for field in fields(RlConfig)])
def test_a_setting_of_rl_enters_the_rollouts_or_ppo(name: str) -> None:
    config = demo()
    changed = replace(config, rl=replace(config.rl, **{name: "another"}))
    touched = {step.name for step in full_plan(1) if settings_of(step, config) != settings_of(step, changed)}
    assert touched == (
        {"rollout"} if name in ROLLOUT else {"assess"} if name == "eval_questions" else {"ppo"}
    )


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("seed=7", {"rationale", "assess", "rollout", "ppo", "generate", "sft", "lora"}),
        (
            "trainer.precision=bf16-mixed",
            {"rationale", "assess", "rollout", "ppo", "generate", "sft", "lora"},
        ),
        ("generate.max_new_tokens=7", {"rationale", "assess", "generate", "sft"}),
        ("model.layers=7", {"rationale"}),
        (
            "text.newline=escape",
            {"rationale", "assess", "rollout", "score", "ppo", "generate", "sft", "lora"},
        ),
        ("correct.on_quarantine=keep_own", {"correct"}),
        ("evaluate.split=val", {"lora", "evaluate"}),
        ("trainer.devices=2", set()),
        ("report.examples=3", set()),
    ],
)
def test_which_steps_a_setting_changes(override: str, steps: set[str]) -> None:
    config, changed = demo(), demo(override)
    touched = {step.name for step in full_plan(1) if settings_of(step, config) != settings_of(step, changed)}
    assert touched == steps


def test_a_verdict_depends_on_the_rationales_that_are_compared_with(tmp_path) -> None:
    other = tmp_path / "rationales-test.parquet"
    config = demo(f"judge.against={other}")
    other.write_bytes(b"one")
    before = settings_of(JUDGE, config)
    other.write_bytes(b"two")
    assert settings_of(JUDGE, config) != before
