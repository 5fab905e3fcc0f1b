"""Whole stages on several CPU processes through the command line, started by us, by torchrun and by srun."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ares.launch.group import free_port
from ares.storage.files import read_json
from ares.storage.tables import read_feedback, read_rollouts
from tests.distributed import slow_teacher

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

SMALL = (
    "experiment=demo",
    "data.sizes={train: 48, val: 12, test: 12}",
    "model.d_model=32",
    "model.d_ff=64",
    "model.layers=1",
    "rationale.epochs=6",
    "rationale.eval_questions=8",
    "rl.questions_per_part=8",
    "rl.ppo_epochs=1",
    "rl.global_batch_size=32",
    "rl.micro_batch_size=8",
    "rl.k=2",
    "rl.max_new_tokens=30",
    "rl.eval_questions=11",
    "generate.max_new_tokens=30",
    "generate.batch_size=4",
)
TWO = ("strategy=ddp", "trainer.devices=2")


def command(runs: Path, *arguments: str) -> list[str]:
    return [sys.executable, "train.py", *SMALL, f"paths.runs={runs}", *arguments]


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A rationale policy, and RL from it on one process."""
    found = tmp_path_factory.mktemp("runs")
    finish(start(command(found, "stage=rationale", "run=start")))
    finish(start(command(found, "stage=rl", "run=one", "policy=start")))
    return found


def assert_same_rl(one: Path, other: Path) -> None:
    at = "round-1"
    assert read_rollouts(one / at / "rollouts") == read_rollouts(other / at / "rollouts")
    assert read_feedback(one / at / "feedback.parquet") == read_feedback(other / at / "feedback.parquet")
    for model in ("policy", "value"):
        expected, found = (
            load_file(root / at / "ppo" / model / "model.safetensors") for root in (one, other)
        )
        assert expected.keys() == found.keys()
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-4)
    steps = [read_json(root / "manifest.json")["steps"]["rationale/assess"] for root in (one, other)]
    assert steps[0]["metrics"] == steps[1]["metrics"]


def test_two_processes_make_what_one_makes_though_the_teacher_is_slower_than_a_collective_may_be(
    runs: Path,
) -> None:
    arguments = (
        "strategy.timeout.seconds=20",
        "teacher._target_=tests.distributed.slow_teacher.SlowTeacher",
        f"paths.ledger={runs / 'other.sqlite'}",
    )
    finish(start(command(runs, "stage=rl", "run=two", "policy=start", *TWO, *arguments)))
    assert slow_teacher.SECONDS > 20
    steps = read_json(runs / "two/manifest.json")["steps"]
    assert steps["round-1/score"]["seconds"] > slow_teacher.SECONDS
    assert_same_rl(runs / "one", runs / "two")


def test_every_step_runs_on_two_processes(tmp_path: Path) -> None:
    few = ("rationale.epochs=1", "sft.epochs=1", "lora.epochs=1")
    output = finish(start(command(tmp_path, *TWO, *few)))
    assert (tmp_path / "demo/report.html").exists()
    assert not list((tmp_path / "demo").rglob(".checkpoints-*"))
    assert not (tmp_path / "demo/.launch").exists()
    assert "1/2" in output
    again = finish(start(command(tmp_path, *TWO, *few)))
    assert again.count(": done") == len(read_json(tmp_path / "demo/manifest.json")["steps"])


def srun(arguments: list[str]) -> list[subprocess.Popen[str]]:
    """What srun does: the same command in each task, which learns its place from SLURM's variables."""
    environment = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NODEID": "0"}
    return [
        start(arguments, **environment, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)) for rank in (0, 1)
    ]


def torchrun(arguments: list[str]) -> list[subprocess.Popen[str]]:
    launcher = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
        f"--master-port={free_port()}",
    ]
    return [start([*launcher, *arguments[1:]])]


@pytest.mark.parametrize("starter", [torchrun, srun])
def test_started_by_torchrun_or_srun_the_other_rank_waits_and_takes_part(runs: Path, starter) -> None:
    name = starter.__name__
    for process in starter(command(runs, "stage=rl", f"run={name}", "policy=start", *TWO)):
        finish(process)
    assert_same_rl(runs / "one", runs / name)


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """The worker processes that a command has started, by looking at /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            line = (path.parent / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == process.pid and "ares.launch.worker" in line:
            found.append(int(path.parent.name))
    return sorted(found)


def wait_for_ranks(process: subprocess.Popen[str]) -> list[int]:
    deadline = time.monotonic() + 120
    while len(found := ranks_of(process)) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_killed_rank_stops_the_run_within_seconds(runs: Path) -> None:
    process = start(command(runs, "stage=rl", "run=killed", "policy=start", *TWO))
    ranks = wait_for_ranks(process)
    os.kill(ranks[1], signal.SIGKILL)
    killed = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - killed < 15
    assert process.returncode == 1
    assert "rank 1 was killed by SIGKILL" in output
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)


def test_a_killed_orchestrator_leaves_no_rank_behind(runs: Path) -> None:
    process = start(command(runs, "stage=rl", "run=orphans", "policy=start", *TWO))
    ranks = wait_for_ranks(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_mistake_in_a_rank_is_one_sentence(runs: Path) -> None:
    process = start(
        command(runs, "stage=rl", "run=mistake", "policy=start", *TWO, "rl.holdout=0.9", "rl.questions=1")
    )
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 2, output
    assert "error: " in output
    assert "Traceback" not in output
