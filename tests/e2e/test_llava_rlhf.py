"""LLaVA-RLHF's recipe on a tiny vision-language model and made-up data: policy initialization, reward model, PPO."""

from pathlib import Path

import pytest

from ares.pipeline.manifest import read_manifest
from tests.support.composed import composed
from tests.support.small_run import run

pytestmark = pytest.mark.slow

TINY = (
    *("experiment=llava_rlhf_7b", "data=sample", "model=tiny_vlm", "strategy=single", "logger=csv"),
    *("teacher=oracle", "trainer.accelerator=cpu", "trainer.precision=32-true"),
    *("model.d_model=32", "model.d_ff=32", "model.layers=1", "model.heads=2"),
    *("data.sizes={train: 12, val: 4, test: 4}", "text.max_input_tokens=512"),
    *("rationale.global_batch_size=4", "rationale.micro_batch_size=4", "rationale.eval_questions=2"),
    *("rl.questions=8", "rl.questions_per_part=8", "rl.k=2", "rl.max_new_tokens=12", "rl.eval_questions=2"),
    *("rl.global_batch_size=8", "rl.micro_batch_size=8", "rl.holdout=0", "generate.max_new_tokens=12"),
    *("reward.global_batch_size=4", "reward.micro_batch_size=4", "reward.holdout=0.3", "reward.on=[scores]"),
)


def stage(runs: Path, *settings: str) -> None:
    run(composed(*TINY, f"paths.runs={runs}", *settings))


def test_recipe_runs_end_to_end(tmp_path: Path) -> None:
    stage(tmp_path, "run=init", "stage.steps=[rationale,rollout,score]")
    stage(tmp_path, "run=init", "stage=reward")
    learned = ("policy=init", "teacher=learned", "teacher.path=init")
    further = ("rl.value_init=reward", "rl.rewards.reward_model=1")
    stage(tmp_path, "run=rl", "stage=rl", *learned, *further)
    steps = read_manifest(tmp_path / "rl")
    metrics = steps["round-1/ppo"].metrics
    assert steps["round-1/score"].requests > 0
    assert steps["round-1/score"].usd == 0
    assert metrics["train/reward_sentences"] == 0
    assert metrics["train/reward_missing_eos"] == pytest.approx(-8 * metrics["train/truncated"], abs=1e-5)
    assert metrics["train/reward_length"] == pytest.approx(-10 * metrics["train/length"] / 12, rel=1e-5)
    assert metrics["train/reward_reward_model"] != 0
    assert read_manifest(tmp_path / "init")["round-1/reward"].metrics["loss"] > 0
