"""The examples of docs/extending.md work as they are printed there."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ares.pipeline.manifest import read_manifest
from ares.storage.tables import read_feedback

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs/extending.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
COMMAND = re.search(r"python train\.py (.*?)```", PAGE, re.DOTALL)
TINY = (
    *("model.d_model=16", "model.d_ff=16", "model.d_kv=8", "model.layers=1", "model.heads=2"),
    *(
        "rationale.epochs=1",
        "rationale.eval_every_epochs=1",
        "rl.questions=null",
        "rl.k=2",
        "rl.ppo_epochs=1",
    ),
    *("rl.holdout=0", "rl.max_new_tokens=24", "rl.global_batch_size=8", "rl.micro_batch_size=8"),
    *("generate.max_new_tokens=24", "rl.eval_questions=2"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page and a few riddles."""
    folder = tmp_path_factory.mktemp("extending")
    for name, text in EXAMPLES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    with (folder / "mine/riddles.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "question", "right", "wrong", "reason"])
        for number in range(8):
            split = ("train", "train", "val", "test")[number % 4]
            writer.writerow(
                [split, f"What has {number} teeth?", "a comb", "a cat", "A comb has teeth. It is a comb."]
            )
    return folder


def start(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Runs the command of the page in the folder."""
    assert COMMAND
    words = COMMAND.group(1).replace("\\\n", " ").split()
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "train.py"), *words, *TINY, *overrides],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY / 'src'}"},
        capture_output=True,
        text=True,
        check=False,
    )


def run(folder: Path, *overrides: str) -> str:
    """What the command of the page prints."""
    done = start(folder, *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_examples_are_short() -> None:
    assert len(EXAMPLES) == 7
    assert all(text.count("\n") < 60 for text in EXAMPLES.values())


@pytest.mark.slow
def test_examples_run_together(folder: Path) -> None:
    run(folder)
    root = folder / "runs/demo"
    steps = read_manifest(root)
    assert list(steps) == ["rationale", "round-1/rollouts", "round-1/score", "round-1/sharpen", "round-1/ppo"]
    assert steps["round-1/ppo"].inputs["feedback"].path == "round-1/sharpen/feedback.parquet"
    sharp = read_feedback(root / "round-1/sharpen/feedback.parquet")
    assert {score for row in sharp for score in row.scores or ()} <= {0.0, 0.5, 1.0}
    assert [row.row_id for row in sharp] == [
        row.row_id for row in read_feedback(root / "round-1/feedback.parquet")
    ]
    assert steps["round-1/score"].settings["teacher"]["fingerprint"]["min_length"] == 4
    assert "all steps of stage=sharpened are done; nothing to do" in run(folder)


def test_setting_that_an_example_reads_makes_it_stale(folder: Path) -> None:
    short = ("run=short", "stage.steps=[rationale,rollout,score,mine.sharpen]")
    run(folder, *short)
    before = json.loads((folder / "runs/short/manifest.json").read_text())["steps"]
    output = run(folder, *short, "rl.neutral=0.4", "on_change=rerun")
    assert "round-1/score: done" in output
    assert "round-1/sharpen: started" in output
    assert before["round-1/sharpen"]["settings"] == {"rl.neutral": 0.5}


def test_a_stage_of_ones_own_is_known_to_the_doctor_and_to_suggested_commands(folder: Path) -> None:
    output = run(folder, "stage=doctor", "doctor.stage=sharpened")
    assert "stage=sharpened data=riddles model=tiny can run here." in output
    refused = start(folder, "stage=ppo", "run=new")
    assert refused.returncode == 2, refused.stderr
    assert re.search(r"run `python \S*train\.py stage=rationale ", refused.stderr)
