"""Full runs from the command line: small, with every step real."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ares.storage.files import read_json
from ares.storage.tables import (
    read_corrections,
    read_feedback,
    read_predictions,
    read_rationales,
    read_rollouts,
    read_verdicts,
)
from tests.support.wandb_record import messages

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

SIZES = "data.sizes={train: 48, val: 12, test: 12}"
SMALL = (
    "model.d_model=32",
    "model.d_ff=64",
    "model.layers=1",
    "rationale.epochs=6",
    "rl.questions_per_part=8",
    "rl.ppo_epochs=1",
    "rl.global_batch_size=64",
    "rl.micro_batch_size=32",
    "rl.k=2",
    "rl.max_new_tokens=40",
    "rl.eval_questions=12",
    "generate.max_new_tokens=40",
    "sft.epochs=1",
    "lora.epochs=1",
)


def command(runs: Path, *arguments: str) -> list[str]:
    sizes = () if "data=scienceqa" in arguments else (SIZES,)
    return [sys.executable, "train.py", "experiment=demo", *SMALL, *sizes, f"paths.runs={runs}", *arguments]


def train(runs: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(runs, *arguments),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A finished run of two rounds."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder, "rounds=2")
    return folder


def test_run_leaves_all_artifacts_consistent(runs: Path) -> None:
    root = runs / "demo"
    for number in (1, 2):
        at = root / f"round-{number}"
        rollouts = read_rollouts(at / "rollouts")
        feedback = read_feedback(at / "feedback.parquet")
        assert len(list((at / "rollouts").glob("part-*.parquet"))) == 6
        assert [row.row_id for row in rollouts] == [row.row_id for row in feedback]
        assert len(rollouts) == 2 * 48
        for rollout, row in zip(rollouts, feedback, strict=True):
            assert row.status == ("ok" if rollout.spans else "empty")
            assert len(row.scores or ()) == len(rollout.spans) == len(rollout.token_ends)
            assert len(rollout.logprobs) == len(rollout.ref_logprobs) == len(rollout.token_ids)
        assert {row.pid for row in read_corrections(at / "corrections.parquet")} == {
            row.pid for row in rollouts
        }
        assert (at / "sft/policy/model.safetensors").exists()
    for place in ("baseline", "final"):
        predictions = read_predictions(root / place / "lora/predictions.jsonl")
        rationales = read_rationales(root / place / "rationales-test.parquet")
        assert [row.rationale for row in predictions] == [row.text for row in rationales]
        assert len(predictions) == read_json(root / place / "scores.json")["questions"] == 12
    assert len(read_verdicts(root / "final/verdicts.parquet")) == 12
    scores = read_json(root / "final/scores.json")
    assert set(scores["accuracy"]) >= {"NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12", "AVG"}
    assert (
        read_json(root / "metrics.json")["steps"].keys() == read_json(root / "manifest.json")["steps"].keys()
    )
    assert not list(root.rglob(".checkpoints-*"))
    page = (root / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "round-2/ppo" in page


def test_ref_logprobs_are_of_the_initial_policy(runs: Path) -> None:
    first = read_rollouts(runs / "demo/round-1/rollouts")
    assert all(row.logprobs == row.ref_logprobs for row in first)
    second = read_rollouts(runs / "demo/round-2/rollouts")
    assert any(row.logprobs != row.ref_logprobs for row in second)


def test_only_train_problems_reach_the_teacher(runs: Path) -> None:
    splits = read_json(next((runs / "shared").glob("sample-*")) / "pid_splits.json")
    train_pids = set(splits["train"])
    for number in (1, 2):
        at = runs / f"demo/round-{number}"
        assert {row.row_id.split("/")[0] for row in read_feedback(at / "feedback.parquet")} == train_pids
        assert {row.pid for row in read_corrections(at / "corrections.parquet")} == train_pids


def test_repeated_command_runs_no_step(runs: Path) -> None:
    before = (runs / "demo/manifest.json").read_text()
    done = train(runs, "rounds=2")
    assert (runs / "demo/manifest.json").read_text() == before
    assert done.stdout.count(": done") == 24


def test_run_killed_between_rollout_parts_resumes_identically(runs: Path, tmp_path: Path) -> None:
    train(tmp_path, "stage=rationale")
    process = subprocess.Popen(
        command(tmp_path, "stage=rl"), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    parts = tmp_path / "demo/round-1/rollouts"
    deadline = time.monotonic() + 120
    while len(list(parts.glob("part-*.parquet"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*.parquet")}
    train(tmp_path, "stage=rl")
    assert len(list(parts.glob("part-*.parquet"))) == 6
    assert {name: (parts / name).stat().st_mtime_ns for name in kept} == kept
    assert read_rollouts(parts) == read_rollouts(runs / "demo/round-1/rollouts")
    assert read_feedback(parts.parent / "feedback.parquet") == read_feedback(
        runs / "demo/round-1/feedback.parquet"
    )


def test_wandb_offline_logs_the_same_names_as_csv(tmp_path: Path) -> None:
    folders = {
        name: str(tmp_path / name) for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
    }
    train(tmp_path, "stage=rationale", "logger=wandb", WANDB_API_KEY="", WANDB_MODE="offline", **folders)
    [log] = (tmp_path / "demo/wandb").glob("offline-run-*/run-*.wandb")
    names = set()
    for record in messages(log):
        names |= {item.key or ".".join(item.nested_key) for item in record.history.item}
    header = (tmp_path / "demo/logs/rationale/metrics.csv").read_text().splitlines()[0].split(",")
    csv_names = {name for name in header if name not in ("step", "epoch") and not name.endswith("/epoch")}
    assert csv_names == {"rationale/loss", "rationale/lr", "rationale/val/rouge_l"}
    assert csv_names <= names


def test_bad_data_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "problems.json").write_text('{"1": {"question": "Which?"}}')
    (root / "pid_splits.json").write_text('{"train": ["1"], "val": [], "test": []}')
    done = subprocess.run(
        command(tmp_path, "data=scienceqa", f"data.root={root}", "features=none", "stage=rationale"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "problems.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_scienceqa_run_reaches_the_report(shared: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    source = shared / "data" / "scienceqa"
    problems, splits = read_json(source / "problems.json"), read_json(source / "pid_splits.json")
    few = {"train": splits["train"][:32], "val": splits["val"][:8], "test": splits["test"][:16]}
    chosen = {pid for pids in few.values() for pid in pids}
    (root / "problems.json").write_text(json.dumps({pid: problems[pid] for pid in chosen}))
    (root / "pid_splits.json").write_text(json.dumps(few))
    train(
        tmp_path,
        "data=scienceqa",
        f"data.root={root}",
        "teacher=overlap",
        "features=none",
        f"tokenizer.path={shared / 't5_tokenizer'}",
        "run=real",
    )
    assert read_json(tmp_path / "real/final/scores.json")["questions"] == 16
    assert "final/lora" in (tmp_path / "real/report.html").read_text()
