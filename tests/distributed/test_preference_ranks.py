"""Preference optimization on 2 processes is the same as on 1."""

from functools import partial
from pathlib import Path

import pytest
import torch

from tests.distributed.on_a_rank import assert_same_gradients, on_ranks, train_preference
from tests.support.number_vlm import number_vlm
from tests.support.ppo import tiny_policy
from tests.support.preference import by_loss

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("build", "losses"),
    [
        (tiny_policy, ("dpo", "ddpo", "kto_pair", "kto")),
        (partial(number_vlm, vision=True), ("dpo",)),
        (partial(number_vlm, vision=True), ("kto",)),
    ],
    ids=["t5", "vlm-dpo", "vlm-kto"],
)
def test_two_processes_equal_one(tmp_path: Path, build, losses: tuple[str, ...]) -> None:
    """The pairs are a number that neither ranks nor batches divide."""
    cases = {loss: by_loss(loss, micro_batch_size=1) for loss in losses}
    for world in (1, 2):
        on_ranks(train_preference, world, tmp_path, cases, build)
    for loss in losses:
        alone, *ranks = (
            torch.load(tmp_path / f"{loss}-{rank}-{world}.pt", weights_only=True)
            for rank, world in ((0, 1), (0, 2), (1, 2))
        )
        assert len(alone["gradients"]) == 9
        assert alone["final"]["train/accuracy"] > 0.8
        for rank in ranks:
            assert_same_gradients(rank, alone)
            assert rank["final"] == pytest.approx(alone["final"], rel=1e-5, abs=1e-7)
            for parameter, expected in alone["policy"].items():
                torch.testing.assert_close(rank["policy"][parameter], expected, rtol=0, atol=1e-5)
