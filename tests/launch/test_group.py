"""Who starts which ranks, and what becomes of a group one of whose processes dies."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.utils import instantiate

from ares.config.schema import Config
from ares.config.validation import validate
from ares.launch import group as launch
from ares.launch.group import Place, StepFailed, end_ranks, place_of, start_ranks, watch
from ares.launch.placement import command_for
from ares.storage.files import write_json
from ares.types import AresError
from tests.support.composed import composed


def config(*overrides: str) -> Config:
    return composed("experiment=demo", *overrides)


DDP = ("strategy=ddp", "trainer.devices=2", "trainer.num_nodes=2")


def test_alone_a_process_starts_all_ranks_of_its_node() -> None:
    place = place_of(config("strategy=ddp", "trainer.devices=4"), {})
    assert (place.first, place.count, place.world, place.others, place.leads) == (0, 4, 4, (), True)


def test_torchrun_gives_each_process_one_rank() -> None:
    environment = {
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "GROUP_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "node0",
    }
    place = place_of(config(*DDP), environment)
    assert (place.first, place.count, place.world, place.node, place.local) == (3, 1, 4, 1, 1)
    assert not place.leads
    leader = place_of(config(*DDP), {**environment, "RANK": "0"})
    assert (leader.leads, leader.others, leader.address) == (True, (1, 2, 3), "node0")


def test_a_single_process_of_torchrun_starts_the_ranks_itself() -> None:
    environment = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    place = place_of(config("strategy=ddp", "trainer.devices=2"), environment)
    assert (place.first, place.count, place.world) == (0, 2, 2)
    by_hand = {**environment, "NODE_RANK": "1", "MASTER_ADDR": "node0"}
    assert (place_of(config(*DDP), by_hand).first, place_of(config(*DDP), by_hand).count) == (2, 2)


def test_ranks_learn_their_place_from_the_environment(tmp_path: Path, monkeypatch) -> None:
    started = []
    monkeypatch.setattr(launch.subprocess, "Popen", lambda command, env, **_: started.append(env))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    place = Place(first=2, count=2, world=4, node=1, per_node=2)
    start_ranks(place, {"exchange": str(tmp_path), "address": "node0", "port": 29})
    told = (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "GROUP_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
    )
    assert [[environment[name] for name in told] for environment in started] == [
        ["2", "0", "4", "2", "1", "node0", "29"],
        ["3", "1", "4", "2", "1", "node0", "29"],
    ]
    assert {environment["OMP_NUM_THREADS"] for environment in started} == {"7"}  # the user's own stands


def test_srun_gives_each_process_one_rank_and_a_batch_script_does_not() -> None:
    environment = {
        "SLURM_NTASKS": "4",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_PROCID": "2",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "1",
    }
    place = place_of(config(*DDP), environment)
    assert (place.first, place.count, place.world, place.node, place.local) == (2, 1, 4, 1, 0)
    batch = {name: value for name, value in environment.items() if name != "SLURM_STEP_NUM_TASKS"}
    assert place_of(config("strategy=ddp", "trainer.devices=4"), batch).count == 4


def test_one_process_a_node_starts_its_nodes_ranks() -> None:
    place = place_of(config(*DDP), {"NODE_RANK": "1", "MASTER_ADDR": "node0"})
    assert (place.first, place.count, place.world, place.node) == (2, 2, 4, 1)
    assert place_of(config(*DDP), {"NODE_RANK": "0", "MASTER_ADDR": "node0"}).others == (2,)


def test_srun_with_one_task_a_node_starts_the_nodes_ranks() -> None:
    srun = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "1",
    }
    four = ("strategy=ddp", "trainer.devices=4", "trainer.num_nodes=2", "rl.micro_batch_size=8")
    place = place_of(config(*four), srun)
    assert (place.first, place.count, place.world, place.node, place.local) == (4, 4, 8, 1, 0)
    leader = place_of(config(*four), {**srun, "SLURM_PROCID": "0", "SLURM_NODEID": "0"})
    assert (leader.leads, leader.others) == (True, (4,))
    with pytest.raises(AresError, match="2 processes were started"):  # two on one node
        place_of(config(*four), {**srun, "SLURM_LOCALID": "1", "SLURM_NODEID": "0"})


def test_the_command_that_works_keeps_what_was_given_and_validates() -> None:
    asked = ["experiment=paper_scienceqa_base", "run=mine", "trainer.devices=4"]
    chosen = composed(*asked)
    told = command_for(chosen, 3).split()
    assert "run=mine" in told
    assert "trainer.devices=2" in told  # three share no batch of 256
    validate(composed(*told[2:]))
    validate(composed(*command_for(chosen, 1).split()[2:]))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "8"}, "8 processes were started"),
        ({}, "torchrun or srun"),
    ],
)
def test_what_does_not_fit_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(AresError, match=message):
        place_of(config(*DDP), environment)


def process(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_rank_that_dies_ends_the_others_within_seconds_with_its_error(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    (tmp_path / "rank-5.log").write_text("out of memory\n")
    ranks = [process(stubborn), process("raise SystemExit(3)")]
    started = time.monotonic()
    with pytest.raises(StepFailed, match=r"(?s)rank 5 ended with exit code 3.*out of memory"):
        watch(ranks, 4, tmp_path, stop=lambda: None)
    end_ranks(ranks)
    assert time.monotonic() - started < 10
    assert all(rank.poll() is not None for rank in ranks)


def test_of_what_a_rank_said_the_end_is_told(tmp_path: Path) -> None:
    (tmp_path / "rank-0.log").write_text("".join(f"line {number}\n" for number in range(100)))
    with pytest.raises(StepFailed, match="line 99") as failed:
        watch([process("raise SystemExit(3)")], 0, tmp_path, stop=lambda: None)
    assert "line 5\n" not in str(failed.value)


def test_ranks_are_asked_to_end_before_they_are_killed(tmp_path: Path) -> None:
    polite = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(tmp_path / 'asked')!r}).touch(), sys.exit()))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(600)"
    )
    rank = process(polite)
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    end_ranks([rank])
    assert (tmp_path / "asked").exists()
    assert rank.returncode == 0


def test_the_first_error_is_told_and_a_mistake_in_its_own_words(tmp_path: Path) -> None:
    for rank, (at, message, mistake) in enumerate([(2.0, "lost peer", False), (1.0, "no such data", True)]):
        told = {"rank": rank, "time": at, "mistake": mistake, "message": message}
        write_json(tmp_path / f"error-{rank}.json", told)
    with pytest.raises(AresError, match=r"^no such data$"):
        watch([process("raise SystemExit(1)")], 0, tmp_path, stop=lambda: None)


def test_a_rank_lost_elsewhere_ends_the_ones_here(tmp_path: Path) -> None:
    ranks = [process("import time; time.sleep(600)")]
    with pytest.raises(StepFailed, match="rank 3 of node 1"):
        watch(ranks, 0, tmp_path, stop=lambda: "rank 3 of node 1")
    end_ranks(ranks)
    assert ranks[0].poll() is not None


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_strategies_for_four_gpus_are_valid_and_constructed(name: str) -> None:
    chosen = config(
        f"strategy={name}", "trainer.devices=4", "trainer.accelerator=gpu", "rl.micro_batch_size=8"
    )
    validate(chosen)
    assert chosen.trainer.devices == 4
    strategy = instantiate({key: value for key, value in chosen.strategy.items() if key != "name"})
    assert type(strategy).__name__ == {"ddp": "DDPStrategy", "fsdp": "ModelParallelStrategy"}[name]
    assert strategy._timeout.total_seconds() == 1800
