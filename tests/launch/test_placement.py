"""Which processes can run a stage, and the command that works where they cannot."""

import shlex

import pytest

from ares.config.schema import Config
from ares.config.validation import validate
from ares.launch.placement import check_processes, command_for
from ares.types import AresError
from tests.support.composed import composed

TWO = ("experiment=demo", "strategy=ddp", "trainer.devices=2")
FOUR = (*TWO, "trainer.num_nodes=2", "launch=srun")


@pytest.fixture(autouse=True)
def on_a_cluster(monkeypatch, tmp_path) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def torchrun(monkeypatch, world: int) -> None:
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": world}.items():
        monkeypatch.setenv(name, str(value))


def typing(monkeypatch, *arguments: str) -> Config:
    """The configuration of a command line, which messages repeat."""
    monkeypatch.setattr("ares.config.commands.typed", lambda: list(arguments))
    return composed(*arguments)


def refused(chosen: Config) -> str:
    with pytest.raises(AresError) as refusal:
        check_processes(chosen)
    return str(refusal.value)


@pytest.mark.parametrize("arguments", [("experiment=demo",), TWO, FOUR])
def test_one_process_may_run_any_stage(arguments: tuple[str, ...]) -> None:
    check_processes(composed(*arguments))


def test_one_process_of_torchrun_starts_the_ranks_itself(monkeypatch) -> None:
    torchrun(monkeypatch, 1)
    check_processes(composed(*TWO))


@pytest.mark.parametrize("stage", ["ppo", "sft", "rollout", "rationale", "generate", "lora"])
def test_torchrun_may_run_device_steps(monkeypatch, stage: str) -> None:
    torchrun(monkeypatch, 2)
    check_processes(composed(*TWO, f"stage={stage}"))
    torchrun(monkeypatch, 4)
    check_processes(composed(*FOUR, f"stage={stage}"))


def test_stage_with_host_steps_is_refused_under_torchrun(monkeypatch) -> None:
    torchrun(monkeypatch, 2)
    message = refused(typing(monkeypatch, *TWO, "stage=rl"))
    assert "score of stage=rl" in message
    assert f"`python train.py {' '.join(TWO)} stage=rl`" in message
    torchrun(monkeypatch, 4)
    assert "launch=srun`" in refused(composed(*FOUR, "stage=rl"))


def test_process_count_must_equal_device_count(monkeypatch) -> None:
    torchrun(monkeypatch, 8)
    assert "8 processes were started" in refused(composed(*TWO, "stage=ppo"))


def test_several_srun_tasks_are_refused(monkeypatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert "srun started 4 processes" in refused(composed(*FOUR, "stage=ppo"))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    check_processes(composed(*FOUR))


def test_several_nodes_need_existing_launch_command(monkeypatch, tmp_path) -> None:
    assert "launch=srun" in refused(composed(*FOUR, "launch=local"))
    check_processes(composed(*FOUR, "launch=local", "stage=score"))
    check_processes(composed(*FOUR, "launch=local", "launch.command='srun {task}'"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert "'srun', which is not on the PATH" in refused(composed(*FOUR))


def test_the_command_suggested_for_a_wrong_launch_command_leaves_it_out(monkeypatch) -> None:
    command = refused(typing(monkeypatch, *TWO, "launch.command='nowhere {task}'")).split("`")[1]
    assert "nowhere" not in command
    check_processes(composed(*shlex.split(command)[2:]))


def test_suggested_command_keeps_typed_settings_and_validates(monkeypatch) -> None:
    chosen = typing(monkeypatch, "experiment=paper_scienceqa_base", "run=mine", "trainer.devices=4")
    words = command_for(chosen, 3).split()
    assert "run=mine" in words
    assert "trainer.devices=2" in words  # three do not divide a batch of 256
    validate(composed(*words[2:]))
    validate(composed(*command_for(chosen, 1).split()[2:]))
