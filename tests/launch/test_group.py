"""How the ranks of a device step are started and stopped, and which failure the user sees."""

import sys
import time
from pathlib import Path

import pytest

from ares.config.schema import Config
from ares.config.validation import validate
from ares.launch import group
from ares.launch.group import Failure, Severity, StepFailed, launch_command
from ares.launch.task import save
from ares.steps.common.contract import StepContext
from ares.steps.common.inputs import strategy_of
from ares.types import AresError
from tests.support.composed import composed


def config(*overrides: str) -> Config:
    return composed("experiment=demo", *overrides)


def test_placeholders_of_launch_command_are_filled_in(tmp_path: Path) -> None:
    local = launch_command(config(), tmp_path, 1, 2)
    assert local == [sys.executable, "-m", "ares.launch.node", str(tmp_path)]
    srun = launch_command(config("launch=srun"), tmp_path, 3, 2)
    assert {"srun", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1"} <= set(srun)
    own = config("launch.command='mine -n {nodes} -d {devices} --at={task}'")
    assert launch_command(own, Path("/a b"), 2, 4) == ["mine", "-n", "2", "-d", "4", "--at=/a b"]
    with pytest.raises(
        AresError, match=r"'gpus' is not a placeholder; use \{python\}, \{task\}, \{nodes\}, \{devices\}"
    ):
        launch_command(config("launch.command='mine {gpus}'"), tmp_path, 2, 4)
    unclosed = config()
    for command, words in (("sh -c 'true", "No closing quotation; use"), ("mine {task", "expected '}'")):
        unclosed.launch.command = command
        with pytest.raises(AresError, match=words):
            launch_command(unclosed, tmp_path, 1, 2)


def test_command_that_runs_no_rank_is_refused(tmp_path: Path) -> None:
    idle = config("launch.command='true {task}'")
    context = StepContext(tmp_path, "round-1/ppo", tmp_path, 1, idle, "")
    with pytest.raises(AresError, match="ran no rank"):
        group.run_in_group(idle, context, "ppo")


def run(code: str, folder: Path) -> None:
    group._run_command([sys.executable, "-c", code], folder)


def test_command_is_stopped_within_seconds_of_a_rank_failure(tmp_path: Path, monkeypatch) -> None:
    save(Failure(Severity.ERROR, 2.0, 3, "lost peer"), tmp_path / "failure-b.pkl")
    save(Failure(Severity.KILLED, 5.0, 5, "it was killed by SIGKILL"), tmp_path / "failure-a.pkl")
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    monkeypatch.setattr(group, "_GRACE_SECONDS", 1.0)
    started = time.monotonic()
    with pytest.raises(StepFailed, match=r"^rank 5 died: it was killed by SIGKILL$"):
        run(stubborn, tmp_path)
    assert time.monotonic() - started < 5


def test_mistake_in_rank_is_raised_unchanged(tmp_path: Path) -> None:
    save(Failure(Severity.KILLED, 1.0, 0, "killed"), tmp_path / "failure-a.pkl")
    save(Failure(Severity.MISTAKE, 2.0, 1, "no such data"), tmp_path / "failure-b.pkl")
    with pytest.raises(AresError, match=r"^no such data$"):
        run("raise SystemExit(1)", tmp_path)


def test_error_shows_command_that_failed_without_rank_failure(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"SystemExit\(3\).* ended with exit code 3"):
        run("raise SystemExit(3)", tmp_path)


def test_stdin_of_command_stays_open(tmp_path: Path) -> None:
    code = "import select, sys; sys.exit(bool(select.select([0], [], [], 0.5)[0]))"
    run(code, tmp_path)  # does not raise: nothing to read and no end


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("ddp", "round-1/ppo", "DDPStrategy"),
        *(("fsdp", key, "ModelParallelStrategy") for key in ("rationale", "round-1/ppo", "round-1/sft")),
        ("fsdp", "final/lora", "DDPStrategy"),
    ],
)
def test_strategies_for_four_gpus_are_valid_and_constructed(name: str, key: str, expected: str) -> None:
    chosen = config(
        f"strategy={name}", "trainer.devices=4", "trainer.accelerator=gpu", "rl.micro_batch_size=8"
    )
    validate(chosen)
    assert chosen.trainer.devices == 4
    strategy = strategy_of(chosen, StepContext(Path(), key, Path(), 1, chosen, ""))
    assert type(strategy).__name__ == expected
    assert strategy._timeout.total_seconds() == 1800
