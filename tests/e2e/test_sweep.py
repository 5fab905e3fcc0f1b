"""Sweeps from the command line: common steps run once, finished jobs are kept, failed ones run again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ares.storage.files import read_json
from tests.support.wandb_record import run_and_summary

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

SMALL = (
    "experiment=demo",
    "data.sizes={train: 32, val: 8, test: 8}",
    "model.d_model=32",
    "model.d_ff=64",
    "model.layers=1",
    "rationale.epochs=6",
    "rationale.eval_questions=8",
    "rl.questions_per_part=8",
    "rl.ppo_epochs=2",
    "rl.value_warmup_epochs=0",
    "rl.global_batch_size=32",
    "rl.micro_batch_size=16",
    "rl.k=2",
    "rl.max_new_tokens=30",
    "rl.eval_questions=8",
    "generate.max_new_tokens=30",
)
GRID = ("rl.kl_coef=0,1", "rl.clip_range=0.1,0.2")
JOBS = [f"kl_coef={kl},clip_range={clip}" for kl in ("0", "1") for clip in ("0.1", "0.2")]


def train(runs: Path, *arguments: str, flags: tuple[str, ...] = ("-m",), code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "train.py", *flags, *SMALL, f"paths.runs={runs}", *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "WANDB_MODE": "offline"},
        timeout=600,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A run with a rationale policy."""
    runs = tmp_path_factory.mktemp("runs")
    train(runs, "stage=rationale", flags=())
    return runs


@pytest.fixture
def runs(start: Path, tmp_path: Path) -> Path:
    """A copy of it for a sweep of its own."""
    shutil.copytree(start, tmp_path / "runs")
    return tmp_path / "runs"


def manifest(runs: Path, job: str) -> dict:
    return read_json(runs / "demo/sweep" / job / "manifest.json")["steps"]


def assert_shared_once(runs: Path, output: str, jobs: list[str]) -> None:
    assert output.count("round-1/rollouts: started") == output.count("round-1/score: started") == 1
    assert len(list((runs / "shared").glob("rollout-*"))) == len(list((runs / "shared").glob("score-*"))) == 1
    paid = read_json(next((runs / "shared").glob("score-*")) / "entry.json")["requests"]
    assert paid > 0
    assert (
        f"Teacher requests: {paid} in 3 shared steps, once for all jobs; 0 in the {len(jobs)} jobs" in output
    )
    rollouts = {manifest(runs, job)["round-1/ppo"]["inputs"]["rollouts"]["path"] for job in jobs}
    assert len(rollouts) == 1
    policies = {manifest(runs, job)["round-1/ppo"]["outputs"]["policy"]["sha256"] for job in jobs}
    assert len(policies) == len(jobs)


def test_sweep_reuses_rollouts_and_teacher_and_skips_finished_jobs(runs: Path) -> None:
    output = train(runs, "stage=rl", *GRID)
    assert "0 of 4 jobs are done, 4 start now." in output
    assert_shared_once(runs, output, JOBS)
    assert [row["job"] for row in read_json(runs / "demo/sweep/sweep.json")] == JOBS
    assert {path.name for path in (runs / "demo/sweep").iterdir()} == {
        *JOBS,
        "sweep.json",
        "sweep.md",
        "sweep.svg",
        "compare.html",
    }
    page = (runs / "demo/sweep/compare.html").read_text()
    assert all(f">{job}</th>" in page for job in JOBS)
    shutil.rmtree(runs / "demo/sweep" / JOBS[2] / "round-1/ppo/policy")
    again = train(runs, "stage=rl", *GRID)
    assert "3 of 4 jobs are done, 1 start now." in again
    assert again.count("round-1/ppo: started") == 1
    assert "0 in the 4 jobs themselves" in again
    assert "4 of 4 jobs are done, 0 start now." in train(runs, "stage=rl", *GRID)


def test_failed_job_does_not_stop_others_and_is_retried(runs: Path) -> None:
    bad = ("rl.lr=1e-3,1e25", "rl.log_ratio_clamp=null", "rl.gradient_clip=null")
    output = train(runs, "stage=rl", *bad, code=2)
    assert "1 of 2 jobs failed (lr=1e+25)" in output
    assert "became" in output  # the loss, not finite
    assert "Traceback" not in output.split("jobs failed")[1]
    rows = read_json(runs / "demo/sweep/sweep.json")
    assert [row["state"] for row in rows] == ["done", "failed"]
    assert "1 of 2 jobs are done, 1 start now." in train(runs, "stage=rl", *bad, code=2)


@pytest.mark.parametrize(
    "launcher",
    [
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=20"),
    ],
    ids=["joblib", "submitit"],
)
def test_parallel_launcher_reuses_rollouts(runs: Path, launcher: tuple[str, ...]) -> None:
    output = train(runs, "stage=rl", "rl.kl_coef=0,1", *launcher)
    assert_shared_once(runs, output, ["kl_coef=0", "kl_coef=1"])


def test_sweep_jobs_with_two_processes_each(runs: Path) -> None:
    output = train(runs, "stage=rl", "rl.kl_coef=0,1", "strategy=ddp", "trainer.devices=2")
    assert output.count("round-1/rollouts: started") == 1
    assert [row["state"] for row in read_json(runs / "demo/sweep/sweep.json")] == ["done", "done"]


def test_random_search_logs_one_wandb_group(runs: Path) -> None:
    output = train(runs, "stage=rl", "sweep=random_ppo", "sweep.samples=2", "logger=wandb", "rl.ppo_epochs=1")
    assert "0 of 2 jobs are done, 2 start now." in output
    rows = read_json(runs / "demo/sweep/sweep.json")
    assert len({row["setting"]["rl.lr"] for row in rows}) == 2
    logs = [list((runs / "demo/sweep" / row["job"] / "wandb").glob("offline-run-*")) for row in rows]
    assert all(len(runs_of_a_job) == 1 for runs_of_a_job in logs)
    for row, [log] in zip(rows, logs, strict=True):
        run, summary = run_and_summary(next(log.glob("run-*.wandb")))
        assert run["group"] == "demo"
        assert summary["round-1/assess/supporting"] == row["metrics"]["supporting"]


def test_sweep_of_preference_optimization_makes_pairs_once(runs: Path) -> None:
    small = ("prefer.holdout=0", "prefer.global_batch_size=2", "prefer.micro_batch_size=2", "prefer.lr=1e-3")
    output = train(runs, "stage=prefer", "prefer.beta=0.05,0.1,0.5", "pairs.source=all", *small)
    assert "0 of 3 jobs are done, 3 start now." in output
    assert output.count("round-1/pairs: started") == 1
    assert output.count("round-1/prefer: started") == 3
    jobs = ["beta=0.05", "beta=0.1", "beta=0.5"]
    assert [row["job"] for row in read_json(runs / "demo/sweep/sweep.json")] == jobs
    found = [manifest(runs, job)["round-1/prefer"] for job in jobs]
    assert len({entry["inputs"]["pairs"]["path"] for entry in found}) == 1
    assert len({entry["outputs"]["policy"]["sha256"] for entry in found}) == 3


def test_mistakes_in_a_sweep_are_reported_before_anything_runs(runs: Path) -> None:
    output = train(runs, "stage=rl", "rl.micro_batch_size=16,7,5", code=2)
    assert output.count("not a multiple of") == 2
    assert not (runs / "demo/sweep").exists()
    assert "add -m" in train(runs, "stage=rl", "sweep=kl_clip", flags=(), code=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("stage=rl rl.objective=ppo,grop", "error: objective=grop: rl.objective=grop: there is no module"),
        ("stage=rl rl.k=2,1 rl.objective=grpo", "error: k=1: rl.objective=grpo compares rationales"),
        ("stage=rl seed=1,2 teacher=replay", "error: teacher=replay needs a recording"),
        ("stage=rl run=a,b", "give one run=<name>"),
        ("stage=prepare features=patches,none", "stage=prepare has no steps that jobs could share"),
    ],
)
def test_what_a_step_of_any_job_refuses_is_reported_before_anything_runs(
    tmp_path: Path, settings: str, message: str
) -> None:
    output = train(tmp_path, *settings.split(), code=2)
    assert message in output
    assert output.count("error: ") == 1
    assert not list(tmp_path.iterdir())
