"""Fine-tuning on 2 processes is the same fine-tuning as on 1, with all weights on each of them or divided between them."""

from functools import partial
from pathlib import Path

import pytest
import torch

from tests.distributed.on_a_rank import PPO, assert_same_gradients, on_ranks, train_ppo, train_supervised
from tests.support.number_vlm import number_vlm
from tests.support.policies import number_policy
from tests.support.ppo import TinyFeatures

pytestmark = pytest.mark.slow

CASES = {
    "t5": (partial(number_policy, features=TinyFeatures()), False),
    "t5-sharded": (number_policy, True),
    "vlm-adapter": (partial(number_vlm, vision=True), False),
    "vlm-full": (partial(number_vlm, r=0), False),
    "vlm-full-sharded": (partial(number_vlm, r=0), True),
}


def record(folder: Path, name: str, rank: int, world: int) -> dict:
    return torch.load(folder / f"{name}-{rank}-{world}.pt", weights_only=True)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(tmp_path: Path, name: str) -> None:
    """Some micro-batches have images on one rank only, and texts end at different lengths."""
    build, sharded = CASES[name]
    on_ranks(train_supervised, 1, tmp_path, "one", build)
    on_ranks(train_supervised, 2, tmp_path, "two", build, sharded)
    alone = record(tmp_path, "one", 0, 1)
    ranks = [record(tmp_path, "two", rank, 2) for rank in (0, 1)]
    assert len(alone["gradients"]) == 4
    assert alone["final"]["val/exact"] > 0
    assert_same_gradients(ranks[0], alone)
    images = list(zip(*(rank["images"] for rank in ranks), strict=True))
    assert name.startswith("t5") or any(min(pair) == 0 < max(pair) for pair in images)
    for rank in ranks:
        assert rank["final"]["val/exact"] == pytest.approx(alone["final"]["val/exact"])
        assert rank["policy"].keys() == alone["policy"].keys()
        for parameter, expected in alone["policy"].items():
            torch.testing.assert_close(rank["policy"][parameter], expected, rtol=0, atol=1e-5)
        assert all(share < 0.6 if sharded else share == 1 for share in rank["held"].values())


@pytest.mark.parametrize("name", ["t5", "vlm-full-sharded"])
@pytest.mark.parametrize("train", ["supervised", "ppo"])
def test_killed_fit_resumes_inside_epochs(tmp_path: Path, train: str, name: str) -> None:
    """With all weights on each rank (DDP), and with weights divided between them (FSDP)."""
    build, sharded = CASES[name]

    def fit(folder: str, stop_at: tuple[int, int] | None = None, minutes: float = 0) -> None:
        if train == "ppo":
            on_ranks(train_ppo, 2, tmp_path, {folder: PPO}, 11, build, sharded, stop_at, minutes)
        else:
            on_ranks(train_supervised, 2, tmp_path, folder, build, sharded, stop_at, minutes)

    fit("complete", minutes=10)
    complete = [record(tmp_path, "complete", rank, 2) for rank in (0, 1)]
    steps, epochs = len(complete[0]["gradients"]), 3 if train == "ppo" else 2
    each = len(complete[0]["images"]) // epochs  # micro-batches on a rank in an epoch
    assert steps == 2 * epochs
    # In the second step of an epoch (PPO's first one fits the value model alone), between epochs, and again in a step.
    for place in [(0, each - 1), (1, 0), (1, each - 1)]:
        with pytest.raises(AssertionError):
            fit("killed", place)
        assert not list(tmp_path.glob("killed-*.pt"))
    fit("killed")
    for rank in (0, 1):
        resumed = record(tmp_path, "killed", rank, 2)
        assert len(resumed["gradients"]) == steps - 3
        measured = complete[rank]["final"].keys() - {"train/tokens_per_second"}
        assert {n: resumed["final"][n] for n in measured} == {n: complete[rank]["final"][n] for n in measured}
        for parameter, expected in complete[rank]["policy"].items():
            assert torch.equal(resumed["policy"][parameter], expected), parameter


def test_sharded_blocks_are_gathered_in_bfloat16(tmp_path: Path) -> None:
    """Otherwise autocast keeps a half-precision copy of each gathered weight, and nothing of it is shared out."""
    mixed = partial(train_supervised, mixed=True)
    for name in ("t5-sharded", "vlm-full-sharded"):
        build, sharded = CASES[name]
        on_ranks(mixed, 1, tmp_path, f"{name}-one", build)
        on_ranks(mixed, 2, tmp_path, f"{name}-two", build, sharded)
        alone = record(tmp_path, f"{name}-one", 0, 1)
        ranks = [record(tmp_path, f"{name}-two", rank, 2) for rank in (0, 1)]
        assert alone["computed"] == {"torch.float32"}
        for rank in ranks:
            assert rank["computed"] == {"torch.bfloat16"}
            first, expected = rank["gradients"][0], alone["gradients"][0]
            scale = max(g.abs().max() for g in expected.values())
            for parameter in expected:
                torch.testing.assert_close(first[parameter], expected[parameter], rtol=0, atol=0.02 * scale)
            assert {str(g.dtype) for g in first.values()} == {"torch.float32"}
