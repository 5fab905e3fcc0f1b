"""Stages on several CPU processes through the command line, started by us, by torchrun and through srun."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ares.storage.files import read_json
from ares.storage.tables import read_feedback, read_rollouts
from tests.distributed import slow_teacher
from tests.support.wandb_record import messages

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

SMALL = (
    "experiment=demo",
    "baseline=false",
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


def assert_same_rl(one: Path, other: Path, *, assessed: bool = True) -> None:
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
    if assessed:
        steps = [read_json(root / "manifest.json")["steps"]["rationale/assess"] for root in (one, other)]
        assert steps[0]["metrics"] == steps[1]["metrics"]


def test_two_ranks_equal_one_with_teacher_slower_than_collective_timeout(
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


def test_every_step_runs_on_two_ranks(tmp_path: Path) -> None:
    few = ("rationale.epochs=1", "sft.epochs=1", "lora.epochs=1")
    offline = {"WANDB_API_KEY": "", "WANDB_MODE": "offline", "WANDB_CACHE_DIR": str(tmp_path / "cache")}
    output = finish(start(command(tmp_path, *TWO, *few, "logger=wandb"), **offline))
    assert (tmp_path / "demo/report.html").exists()
    # Rank 0 of each step and the process that starts them write to one wandb run.
    logs = list((tmp_path / "demo/wandb").glob("offline-run-*/run-*.wandb"))
    assert len({log.name for log in logs}) == 1
    histories = [record.history for log in logs for record in messages(log) if record.HasField("history")]
    named = {item.key or ".".join(item.nested_key) for history in histories for item in history.item}
    assert {"rationale/epoch", "final/lora/epoch"} <= named
    assert not list((tmp_path / "demo").rglob(".checkpoints-*"))
    assert not (tmp_path / "demo/.launch").exists()
    assert "1/2" in output
    again = finish(start(command(tmp_path, *TWO, *few, "logger=wandb"), **offline))
    assert again.count(": done") == len(read_json(tmp_path / "demo/manifest.json")["steps"])


SRUN = """#!{python}
import os, subprocess, sys
options = [word for word in sys.argv[1:] if word.startswith("--")]
assert {{"--nodes=2", "--ntasks=2", "--ntasks-per-node=1"}} <= set(options), options
command = sys.argv[1 + len(options):]
tasks = []
for node in ("0", "1"):
    slurm = {{"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": node, "SLURM_NODEID": node, "SLURM_LOCALID": "0"}}
    tasks.append(subprocess.Popen(command, env={{**os.environ, **slurm}}))
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.fixture
def two_nodes(tmp_path: Path, monkeypatch) -> tuple[str, ...]:
    """Arguments for two nodes of one device each; the `srun` on the PATH runs a command twice, as two nodes would."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN.format(python=sys.executable))
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=":")
    return ("strategy=ddp", "trainer.devices=1", "trainer.num_nodes=2", "launch=srun")


def test_srun_runs_each_device_step_on_two_nodes(runs: Path, two_nodes: tuple[str, ...]) -> None:
    finish(start(command(runs, "stage=rl", "run=srun", "policy=start", *two_nodes)))
    assert_same_rl(runs / "one", runs / "srun")
    assert not (runs / "srun/.launch").exists()


def test_mistake_on_another_node_is_printed_without_traceback(runs: Path, two_nodes: tuple[str, ...]) -> None:
    assert_mistake(start(command(runs, "stage=rl", "run=srun-mistake", "policy=start", *two_nodes, *MISTAKE)))


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    return start(
        [sys.executable, *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"), *arguments]
    )


def test_device_steps_run_under_torchrun(runs: Path) -> None:
    for stage in ("rollout", "ppo"):
        if stage == "ppo":  # the Teacher is asked by one process
            finish(start(command(runs, "stage=score", "run=torchrun", "policy=start")))
        typed = command(runs, f"stage={stage}", "run=torchrun", "policy=start", *TWO)[1:]
        output = finish(torchrun(*typed))
        assert output.count(": started") == 1
        assert output.count(f"{stage}: done") == 0
        assert "nothing to do" in finish(torchrun(*typed))
    assert_same_rl(runs / "one", runs / "torchrun", assessed=False)


def test_stage_with_host_steps_is_refused_under_torchrun(runs: Path) -> None:
    process = torchrun(*command(runs, "stage=rl", "run=refused", "policy=start", *TWO)[1:])
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "error: torchrun can run a stage of device steps" in output
    assert not (runs / "refused").exists()


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """The worker processes that a command has started, by looking at /proc; without its agent."""
    parents, workers = {}, []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
            if "ares.launch.worker" in (path.parent / "cmdline").read_text():
                workers.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return sorted(worker for worker in workers if parents.get(parents.get(worker, 0)) == process.pid)


def wait_for_ranks(process: subprocess.Popen[str]) -> list[int]:
    deadline = time.monotonic() + 120
    while len(found := ranks_of(process)) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def wait_for_end(ranks: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_killed_rank_stops_the_run_within_seconds_while_another_is_stuck(runs: Path) -> None:
    process = start(command(runs, "stage=rl", "run=killed", "policy=start", *TWO))
    ranks = wait_for_ranks(process)
    os.kill(ranks[0], signal.SIGSTOP)  # as a rank in a collective that ignores SIGTERM
    os.kill(ranks[1], signal.SIGKILL)
    wait_for_end(ranks, 5)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "rank 1 died: it was killed by SIGKILL" in output
    assert "torch.distributed.elastic" not in output


def test_killed_orchestrator_leaves_no_rank_running(runs: Path) -> None:
    process = start(command(runs, "stage=rl", "run=orphans", "policy=start", *TWO))
    ranks = wait_for_ranks(process)
    os.kill(ranks[0], signal.SIGSTOP)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for_end(ranks, 10)


MISTAKE = ("rl.holdout=0.9", "rl.questions=1")


def assert_mistake(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 2, output
    assert output.count("error: ") == 1
    assert "Traceback" not in output


def test_mistake_in_rank_is_printed_without_traceback(runs: Path) -> None:
    assert_mistake(start(command(runs, "stage=rl", "run=mistake", "policy=start", *TWO, *MISTAKE)))
