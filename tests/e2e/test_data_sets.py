"""Full runs on data sets other than ScienceQA, prepared from the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from ares.storage.files import read_json
from ares.storage.tables import read_predictions, read_rationales

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

SMALL = (
    "experiment=demo",
    "baseline=false",
    "teacher=overlap",
    "model.d_model=32",
    "model.d_ff=64",
    "model.layers=1",
    "tokenizer.vocab_size=300",
    "rationale.epochs=2",
    "rl.k=2",
    "rl.questions_per_part=8",
    "rl.ppo_epochs=1",
    "rl.global_batch_size=64",
    "rl.micro_batch_size=32",
    "rl.max_new_tokens=30",
    "generate.max_new_tokens=30",
    "sft.epochs=1",
    "lora.epochs=1",
)
COLORS = ("red", "green", "blue", "yellow")


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "train.py", *SMALL, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def aokvqa(root: Path) -> Path:
    """The official files and COCO's folders: 24, 8 and 8 questions about squares of one color."""
    random = Random(0)
    root.mkdir()
    for split, count in {"train": 24, "val": 8, "test": 8}.items():
        rows = []
        for number in range(count):
            answer = random.randrange(4)
            path = root / f"coco/{split}2017/{number:012}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), COLORS[answer]).save(path)
            known = {
                "correct_choice_idx": answer,
                "direct_answers": [COLORS[answer]] * 10,
                "rationales": [f"The square is {COLORS[answer]}.", "It is seen.", "A color is asked for."],
            }
            rows.append(
                {
                    "question_id": f"{split}{number}",
                    "image_id": number,
                    "question": "What color is the square?",
                    "choices": list(COLORS),
                    "difficult_direct_answer": False,
                    **(known if split != "test" else {}),
                }
            )
        (root / f"aokvqa_v1p0_{split}.json").write_text(json.dumps(rows))
    return root


def test_ares_on_aokvqa_to_the_leaderboard_file(tmp_path: Path) -> None:
    root = aokvqa(tmp_path / "data")
    data = ("data=aokvqa", f"data.root={root}", f"paths.runs={tmp_path / 'runs'}", "run=a")
    done = train("stage=prepare", *data)
    assert "problems: 40 (train 24, val 8, test 8), 40 images" in done.stdout
    assert "features: 16 x 784 of 40 problems" in done.stdout
    train("stage=ares", *data)
    final = tmp_path / "runs/a/final"
    scores = read_json(final / "scores.json")
    predictions = read_predictions(final / "lora/predictions.jsonl")
    assert (scores["split"], scores["questions"], len(predictions)) == ("val", 8, 8)
    # All ten annotators agree here, so both settings measure the same.
    assert scores["direct_answer"] == pytest.approx(scores["accuracy"]["AVG"])
    assert scores["accuracy"]["AVG"] == pytest.approx(100 * sum(p.correct for p in predictions) / 8)
    board = read_json(final / "lora/leaderboard.json")
    assert sorted(board) == sorted(f"test{number}" for number in range(8))
    assert all(set(entry) == {"multiple_choice", "direct_answer"} for entry in board.values())
    assert {entry["multiple_choice"] for entry in board.values()} <= set(COLORS)
    assert "final/lora" in (tmp_path / "runs/a/report.html").read_text()
    exported_and_imported(tmp_path / "runs", data[:3])


def exported_and_imported(runs: Path, data: tuple[str, ...]) -> None:
    """What a run exports in the original's layout another run starts from."""
    done = train("stage=export", *data, "run=a")
    folder = runs / "a/export"
    names = ["policy/pytorch_model.bin", "policy/value_function.pth", "policy/tokenizer.json"]
    names += [f"rationales/predictions_ans_{name}.json" for name in ("train", "eval", "test")]
    names += ["answers/predictions_ans_eval.json"]
    assert all((folder / name).is_file() for name in names)
    assert str(folder / "policy") in done.stdout
    answers = read_json(folder / "answers/predictions_ans_eval.json")
    assert answers["preds"] == [p.output for p in read_predictions(runs / "a/final/lora/predictions.jsonl")]
    assert set(answers["labels"]) <= {f"The answer is ({letter})." for letter in "ABCD"}
    train(
        "stage=generate",
        *data,
        "run=b",
        f"policy={folder / 'policy'}",
        f"generate.predictions={folder / 'rationales'}",
    )
    for split in ("train", "val", "test"):
        first, second = (read_rationales(runs / f"{run}/final/rationales-{split}.parquet") for run in "ab")
        assert [(row.pid, row.text) for row in first] == [(row.pid, row.text) for row in second]
    # The exported policy itself writes the same again.
    train("stage=generate", *data, "run=c", f"policy={folder / 'policy'}")
    again = read_rationales(runs / "c/final/rationales-val.parquet")
    assert again == read_rationales(runs / "a/final/rationales-val.parquet")


def test_ares_on_custom_problems_without_test_split(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [
        {
            "pid": f"p{number}",
            "question": f"Is {number} even?",
            "choices": ["yes", "no"],
            "answer": number % 2,
            "split": "train" if number < 24 else "val",
            "solution": f"{number} is {'odd' if number % 2 else 'even'}. So it is.",
        }
        for number in range(32)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(
        "data=custom",
        f"data.root={path}",
        "features=none",
        "evaluate.split=val",
        f"paths.runs={tmp_path / 'runs'}",
        "run=c",
    )
    scores = read_json(tmp_path / "runs/c/final/scores.json")
    assert (scores["questions"], scores["direct_answer"]) == (8, None)


def test_killed_prepare_resumes_identically(tmp_path: Path) -> None:
    root = tmp_path / "data"
    problems, splits = {}, {"train": [], "val": [], "test": []}
    random = np.random.default_rng(0)
    for number in range(300):
        pid = str(number)
        problems[pid] = {"question": "?", "choices": ["a"], "answer": 0, "image": "image.png"}
        problems[pid] |= dict.fromkeys(
            ("hint", "task", "grade", "subject", "topic", "category", "skill", "lecture", "solution"), ""
        )
        splits["train"].append(pid)
        (root / "images" / pid).mkdir(parents=True)
        pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / pid / "image.png")
    (root / "problems.json").write_text(json.dumps(problems))
    (root / "pid_splits.json").write_text(json.dumps(splits))
    command = (
        "stage=prepare",
        "data=scienceqa",
        f"data.root={root}",
        "features=timm",
        "features.model=test_vit",
        "features.pretrained=false",
        "features.batch_size=4",
        "features.workers=0",
    )
    train(*command, f"paths.runs={tmp_path / 'complete'}")
    process = subprocess.Popen(
        [sys.executable, "train.py", *SMALL, *command, f"paths.runs={tmp_path / 'killed'}"],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (states := list((tmp_path / "killed/shared").glob("features-*/progress.json"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = read_json(states[0])["done"]
    assert 0 < done < 300
    again = train(*command, f"paths.runs={tmp_path / 'killed'}")
    assert f"image features · {100 * done / 300:.0f} %" in again.stderr
    [complete], [killed] = (
        list((tmp_path / name / "shared").glob("features-*/index.json")) for name in ("complete", "killed")
    )
    assert read_json(complete)["features_sha256"] == read_json(killed)["features_sha256"]
