"""PPO on 1, 2 and 4 processes is the same PPO: gradients, weights, metrics, and every row once."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.distributed.on_a_rank import PPO, assert_same_gradients, on_ranks, train_ppo
from tests.support.number_vlm import number_vlm
from tests.support.ppo import TinyFeatures, tiny_policy

pytestmark = pytest.mark.slow

CASES = {
    "ppo": PPO,
    "reward": replace(PPO, kl_in="reward", value_warmup_epochs=0),
    "rloo": replace(PPO, objective="rloo"),
    "grpo": replace(PPO, objective="grpo"),
}
# 11 questions of at most 3 rationales make 31 rows: a number that neither ranks nor batches divide.
QUESTIONS = 11
T5 = partial(tiny_policy, features=TinyFeatures())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("ranks")
    for world in (1, 2, 4):
        (found / str(world)).mkdir()
        on_ranks(train_ppo, world, found / str(world), CASES, QUESTIONS, T5)
    return found


def records(folder: Path, name: str, world: int) -> list[dict]:
    return [
        torch.load(folder / str(world) / f"{name}-{rank}-{world}.pt", weights_only=True)
        for rank in range(world)
    ]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("world", [2, 4])
def test_gradients_weights_and_metrics_equal_those_of_one_process(
    folder: Path, name: str, world: int
) -> None:
    [alone] = records(folder, name, 1)
    together = records(folder, name, world)[0]
    assert len(alone["train"]) % (world * PPO.micro_batch_size) != 0
    assert len(alone["gradients"]) == len(together["gradients"]) >= 6 - 2 * (name != "ppo")
    assert_same_gradients(together, alone)
    for expected, found in zip(alone["weights"][:5], together["weights"][:5], strict=True):
        for parameter in expected:
            torch.testing.assert_close(found[parameter], expected[parameter], rtol=0, atol=1e-5)
    for expected, found in zip(alone["metrics"], together["metrics"], strict=True):
        measured = expected.keys() - {"train/tokens_per_second"}
        assert {n: found[n] for n in measured} == pytest.approx(
            {n: expected[n] for n in measured}, rel=1e-5, abs=1e-7
        )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("world", [1, 2, 4])
def test_each_row_is_used_once_per_epoch(folder: Path, name: str, world: int) -> None:
    ranks = records(folder, name, world)
    assert len({len(rank["rows"]) for rank in ranks}) == 1
    epochs = CASES[name].ppo_epochs + (CASES[name].value_warmup_epochs if name == "ppo" else 0)
    each = len(ranks[0]["rows"]) // epochs
    for epoch in range(epochs):
        seen = [
            row
            for rank in ranks
            for batch in rank["rows"][epoch * each : (epoch + 1) * each]
            for row in batch
        ]
        assert sorted(seen) == sorted(ranks[0]["train"])


def test_all_ranks_end_with_the_same_weights(folder: Path) -> None:
    first, *others = records(folder, "ppo", 4)
    for other in others:
        for parameter, expected in first["weights"][-1].items():
            assert torch.equal(other["weights"][-1][parameter], expected)


@pytest.mark.parametrize(
    ("build", "sharded"),
    [
        (tiny_policy, True),
        (partial(number_vlm, vision=True), False),
        (partial(number_vlm, r=0, vision=True), False),
        (partial(number_vlm, r=0), True),
    ],
    ids=["t5-sharded", "vlm-adapter", "vlm-full", "vlm-full-sharded"],
)
@pytest.mark.parametrize("name", ["ppo", "rloo"])
def test_ppo_over_two_processes_equals_one(tmp_path: Path, name: str, build, sharded: bool) -> None:
    """Some micro-batches have images on one rank only."""
    on_ranks(train_ppo, 1, tmp_path, {name: CASES[name]}, QUESTIONS, build)
    on_ranks(train_ppo, 2, tmp_path, {f"{name}/two": CASES[name]}, QUESTIONS, build, sharded)
    alone = torch.load(tmp_path / f"{name}-0-1.pt", weights_only=True)
    ranks = [torch.load(tmp_path / f"{name}/two-{rank}-2.pt", weights_only=True) for rank in (0, 1)]
    assert_same_gradients(ranks[0], alone)
    for rank in ranks:
        assert all(share < 0.6 if sharded else share == 1 for share in rank["held"].values())
        for parameter, expected in alone["policy"].items():
            torch.testing.assert_close(rank["policy"][parameter], expected, rtol=0, atol=1e-5)
    measured = alone["final"].keys() - {"train/tokens_per_second"}
    assert {n: ranks[0]["final"][n] for n in measured} == pytest.approx(
        {n: alone["final"][n] for n in measured}, rel=1e-5, abs=1e-7
    )
