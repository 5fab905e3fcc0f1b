"""A reward model trained on 2 processes is the one trained on 1."""

from functools import partial
from pathlib import Path

import pytest
import torch

from tests.distributed.on_a_rank import assert_same_gradients, on_ranks, train_reward_model
from tests.support.number_vlm import number_vlm
from tests.support.policies import number_policy
from tests.support.ppo import TinyFeatures

pytestmark = pytest.mark.slow

CASES = {
    "t5": (partial(number_policy, features=TinyFeatures()), False),
    "vlm-adapter": (number_vlm, False),
    "vlm-full-sharded": (partial(number_vlm, r=0), True),
}


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(tmp_path: Path, name: str) -> None:
    build, sharded = CASES[name]
    on_ranks(train_reward_model, 1, tmp_path, "one", build)
    on_ranks(train_reward_model, 2, tmp_path, "two", build, sharded)
    alone = torch.load(tmp_path / "one-0-1.pt", weights_only=True)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"two-{rank}-2.pt", weights_only=True)
        assert_same_gradients(found, alone)
        assert found["final"]["val/log_likelihood"] == pytest.approx(alone["final"]["val/log_likelihood"])
        for weight, expected in alone["model"].items():
            torch.testing.assert_close(found["model"][weight], expected, rtol=0, atol=1e-5)
