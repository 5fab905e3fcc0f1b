"""A vision-language policy writes the same texts on 2 processes as on 1."""

from dataclasses import replace
from pathlib import Path

import pytest

from ares.models.vlm.policy import VlmPolicy
from ares.steps import generate, rollout
from ares.steps.common.contract import StepContext
from ares.steps.common.inputs import model_settings
from ares.storage.tables import read_rationales, read_rollouts
from ares.types import Problem
from tests.distributed.on_a_rank import on_ranks
from tests.support.composed import composed
from tests.support.number_vlm import picture

pytestmark = pytest.mark.slow


def problem(number: int) -> Problem:
    """Every other problem has a picture."""
    question = f"Which of these {'big ' * (number % 3)}things is a plant?"
    rest = ("", "", "", "A fern grows.", picture(number) if number % 2 else None)
    return Problem(f"p{number}", question, ("a fern", "a rock"), 0, *rest, "train", *[""] * 6)


PROBLEMS = {f"p{number}": problem(number) for number in range(7)}
CONFIG = composed(
    "experiment=demo",
    "model=tiny_vlm",
    "features=none",
    *("model.d_model=32", "model.d_ff=64", "rl.k=3", "rl.questions_per_part=2", "generate.batch_size=2"),
    *("rl.max_new_tokens=8", "generate.max_new_tokens=8"),
)


def write_texts(rank: int, world: int, folder: Path) -> None:
    """Rollouts and greedy rationales of PROBLEMS by the policy in `folder`, in `folder`/<world>."""
    for step in (rollout, generate):
        step.load_problems = lambda config, context: (PROBLEMS, {"train": list(PROBLEMS)})  # type: ignore[attr-defined]
    inputs = {"policy": folder / "policy", "initial": folder / "policy"}
    own = folder / str(world)
    context = StepContext(folder, "round-1/texts", own, 1, CONFIG, "hash", inputs)
    own.mkdir(exist_ok=True)
    rollout.rollout(CONFIG, context)
    generate.generate(CONFIG, replace(context, key="round-1/generate"))


def test_two_processes_write_the_texts_of_one(tmp_path: Path) -> None:
    texts = [row.question for row in PROBLEMS.values()] * 3
    vocabulary = {"path": None, "vocab_size": 300}
    policy = VlmPolicy.start(model_settings(CONFIG), texts, tokenizer=vocabulary, seed=0)
    policy.save(tmp_path / "policy")
    for world in (1, 2):
        on_ranks(write_texts, world, tmp_path)
    rollouts = [read_rollouts(tmp_path / str(world)) for world in (1, 2)]
    assert len(rollouts[0]) == 3 * len(PROBLEMS)
    assert len({row.token_ids for row in rollouts[0]}) > len(PROBLEMS)
    assert rollouts[0] == rollouts[1]
    rationales = [read_rationales(tmp_path / str(world) / "rationales-train.parquet") for world in (1, 2)]
    assert [row.pid for row in rationales[0]] == list(PROBLEMS)
    assert rationales[0] == rationales[1]
