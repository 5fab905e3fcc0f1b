"""score, correct and judge as they are typed: dry runs, a cap, a service and a recording."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ares.storage.files import read_json, write_jsonl
from ares.storage.tables import read_rationales, read_verdicts, write_rationales
from ares.text.prompts import strip_solution
from ares.types import Rationale

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

SMALL = (
    "baseline=false",
    *("data.sizes={train: 48, val: 12, test: 12}", "model.d_model=32", "model.d_ff=64", "model.layers=1"),
    *("rationale.epochs=6", "rl.questions=24", "rl.k=2", "rl.max_new_tokens=40", "rl.ppo_epochs=1"),
    *("rl.global_batch_size=64", "rl.micro_batch_size=32", "rl.eval_questions=4", "sft.epochs=1"),
    *("generate.max_new_tokens=40", "lora.epochs=1"),
)


def train(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "train.py",
        "experiment=demo",
        *SMALL,
        f"paths.runs={runs}",
        "run=a",
        *arguments,
    ]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, env=os.environ, timeout=600
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of runs, with a finished run `a` of the offline Teacher."""
    runs = tmp_path_factory.mktemp("runs")
    done = train(runs)
    assert done.returncode == 0, done.stdout + done.stderr
    return runs


def steps(runs: Path) -> dict:
    return read_json(runs / "a" / "manifest.json")["steps"]


@pytest.fixture
def others(tmp_path) -> Path:
    """Rationales for the test questions, to compare with."""

    def write(runs: Path) -> Path:
        own = read_rationales(runs / "a" / "final" / "rationales-test.parquet")
        rows = [Rationale(row.pid, f"Number {row.pid} is none.", (1,), False) for row in own]
        write_rationales(tmp_path / "others.parquet", rows)
        return tmp_path / "others.parquet"

    return write


@pytest.mark.parametrize(
    ("step", "count"), [("round-1/score", 24), ("round-1/correct", 48), ("final/judge", 24)]
)
def test_dry_run_sends_and_changes_nothing(step, count, finished, others, loopback):
    server = loopback()
    before = (finished / "a" / "manifest.json").read_bytes(), (finished / "a" / "config.yaml").read_bytes()
    done = train(
        *(finished, f"stage={step.split('/')[1]}", "teacher=anthropic", f"teacher.base_url={server.url}"),
        *("teacher.dry_run=true", "on_change=rerun", f"judge.against={others(finished)}"),
    )
    assert done.returncode == 0, done.stderr
    assert f"{step}: dry run, teacher=anthropic" in done.stdout
    assert f"{count} to send, 0.0% of {count} are in the ledger" in done.stdout
    assert "tokens    " in done.stdout
    assert " USD" in done.stdout
    assert " min at concurrency 16" in done.stdout
    assert "HTTP" not in done.stdout + done.stderr  # no line for each request
    assert server.hashes == []
    assert before == (
        (finished / "a" / "manifest.json").read_bytes(),
        (finished / "a" / "config.yaml").read_bytes(),
    )


def test_judge_with_a_service_and_with_a_recording(finished, others, loopback, tmp_path):
    server, against = loopback(), others(finished)
    asked = (finished, "stage=judge", f"judge.against={against}")
    claude = (*asked, "teacher=anthropic", f"teacher.base_url={server.url}")
    done = train(*claude)
    assert done.returncode == 0, done.stderr
    assert len(server.hashes) == steps(finished)["final/judge"]["requests"] == 24
    verdicts = read_verdicts(finished / "a" / "final" / "verdicts.parquet")
    assert len(verdicts) == 12
    assert all({row.first_order, row.second_order} <= {"a", "b", "tie"} for row in verdicts)
    assert "nothing to do" in train(*claude).stdout

    own = read_rationales(finished / "a" / "final" / "rationales-test.parquet")
    theirs = {row.pid: row.text for row in read_rationales(against)}
    recording = tmp_path / "recording.jsonl"
    lines = []
    for number, row in enumerate(own):
        a, b = strip_solution([row.text])[0], strip_solution([theirs[row.pid]])[0]
        # The first six are won by a in both orders, the others by whichever comes first.
        for first, second, winner in ((a, b, "first"), (b, a, "second" if number < 6 else "first")):
            reply = json.dumps({"winner": winner})
            lines.append({"kind": "judge", "pid": row.pid, "first": first, "second": second, "reply": reply})
    write_jsonl(recording, lines)
    done = train(*asked, "teacher=replay", f"teacher.path={recording}", "on_change=rerun")
    assert done.returncode == 0, done.stderr
    verdicts = read_verdicts(finished / "a" / "final" / "verdicts.parquet")
    assert [row.winner for row in verdicts] == ["a"] * 6 + ["tie"] * 6
    assert steps(finished)["final/judge"]["metrics"]["order_decides"] == 0.5


def test_cap_stops_score_and_a_higher_one_continues(finished, loopback):
    server = loopback()
    asked = (
        *(finished, "stage=score", "on_change=rerun", "teacher=anthropic"),
        *(f"teacher.base_url={server.url}", f"paths.ledger={finished}/capped.sqlite"),
    )
    done = train(*asked, "teacher.max_usd=0.001")
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert "teacher.max_usd=0.001 is reached" in line
    paid = len(server.hashes)
    assert 0 < paid < 24
    assert "round-1/score" not in steps(finished)
    done = train(*asked, "teacher.max_usd=1")
    assert done.returncode == 0, done.stderr
    assert steps(finished)["round-1/score"]["requests"] == 24  # with those before the stop
    assert len(server.hashes) == len(set(server.hashes)) == 24
