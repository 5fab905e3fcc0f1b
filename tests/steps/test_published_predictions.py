"""Files of the original's predictions in the place of a model: known by their content, refused where they do not fit."""

import json
from pathlib import Path

import pytest

from ares.config.schema import Config
from ares.config.validation import validate
from ares.original.predictions import FILES
from ares.pipeline.runner import run_stage
from ares.report.build import report
from ares.steps.export import _texts
from ares.steps.lora import write_leaderboard
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import read_json
from ares.storage.tables import read_rationales, write_predictions
from ares.text.tokenizers import train_tokenizer
from ares.types import AresError, Prediction
from tests.support.composed import composed

LETTERS = "ABCDE"


def configured(tmp_path: Path, *overrides: str) -> Config:
    fixed = ["experiment=demo", "features=none", "data.sizes={train: 6, val: 4, test: 8}", "run=a"]
    return composed(*fixed, f"paths.runs={tmp_path / 'runs'}", *overrides)


@pytest.fixture
def problems(tmp_path: Path):
    config = configured(tmp_path)
    return read_problems(config.data, prepared(config, make=True)["data"])


def write(at: Path, split: str, preds: list[str], labels: list[str]) -> Path:
    at.mkdir(exist_ok=True)
    (at / FILES[split]).write_text(json.dumps({"num_fail": 0, "preds": preds, "labels": labels}))
    return at


def test_published_answers_are_scored_without_model_or_run(problems, tmp_path: Path) -> None:
    found, splits = problems
    right = [found[pid].answer for pid in splits["test"]]
    labels = [f"The answer is ({LETTERS[answer]})." for answer in right]
    # Four right ones, two wrong ones, one that names no choice of the question and one that names none.
    wrong = [f"The answer is ({LETTERS[1 - answer if answer < 2 else 0]})." for answer in right]
    at = write(
        tmp_path / "old", "test", [*labels[:4], *wrong[4:6], "The answer is (Z).", "I cannot tell."], labels
    )
    config = configured(tmp_path, "stage=evaluate", f"evaluate.predictions={at}")
    run_stage(config)
    scores = read_json(tmp_path / "runs/a/final/scores.json")
    assert (scores["questions"], scores["accuracy"]["AVG"], scores["failed_extractions"]) == (8, 50.0, 2)
    assert scores["rationales"] == {}
    # Another content of the same file is another input.
    run_stage(config)
    write(at, "test", labels, labels)
    with pytest.raises(AresError, match="another input published"):
        run_stage(config)
    run_stage(configured(tmp_path, "stage=evaluate", f"evaluate.predictions={at}", "on_change=rerun"))
    assert read_json(tmp_path / "runs/a/final/scores.json")["accuracy"]["AVG"] == 100.0
    report(configured(tmp_path, "stage=report"), tmp_path / "runs/a")
    assert "100" in (tmp_path / "runs/a/report.html").read_text()


def test_answers_in_different_order_are_refused(problems, tmp_path: Path) -> None:
    found, splits = problems
    labels = [f"The answer is ({LETTERS[found[pid].answer]})." for pid in splits["test"]]
    turned = [*labels[1:], labels[0]]
    assert turned != labels
    for wrong in (turned, ["Solution: a rationale."] * 8):
        at = write(tmp_path / "old", "test", labels, wrong)
        with pytest.raises(AresError, match=r"as the answer of problem .* another order"):
            run_stage(configured(tmp_path, "stage=evaluate", f"evaluate.predictions={at}"))
    with pytest.raises(AresError, match="has none of predictions_ans_train"):
        run_stage(configured(tmp_path, "stage=evaluate", f"evaluate.predictions={tmp_path}"))


def test_changed_published_rationales_make_the_step_stale(problems, tmp_path: Path) -> None:
    found, splits = problems
    gold = {split: [found[pid].solution for pid in pids] for split, pids in splits.items()}
    policy = tmp_path / "policy"
    train_tokenizer(["Solution: one two."], vocab_size=100).save_pretrained(policy)
    (policy / "config.json").write_text("{}")
    for split, pids in splits.items():
        # A tokenizer has been over them, and a lecture may precede them.
        labels = [f"Solution: A lecture. {text.replace('(', ' ')}" for text in gold[split]]
        at = write(tmp_path / "old", split, [f"Solution: {pid}." for pid in pids], labels)
    asked = ("stage=generate", f"policy={policy}", f"generate.predictions={at}")
    run_stage(configured(tmp_path, *asked))
    write(at, "val", ["Solution: other."] * 4, [])  # a file without gold rationales is taken as it is
    with pytest.raises(AresError, match="final/generate was made with another input published"):
        run_stage(configured(tmp_path, *asked))
    run_stage(configured(tmp_path, *asked, "on_change=rerun"))
    rows = read_rationales(tmp_path / "runs/a/final/rationales-val.parquet")
    assert [row.text for row in rows] == ["Solution: other."] * 4
    write(at, "val", ["Solution: other."] * 4, [*gold["val"][1:], gold["val"][0]])
    with pytest.raises(AresError, match="other gold rationales than 4 of 4 problems of the val split"):
        run_stage(configured(tmp_path, *asked, "on_change=rerun"))


def test_unscorable_split_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(AresError, match=r"use it with stage=evaluate, not ares"):
        validate(configured(tmp_path, "evaluate.predictions=old"))
    with pytest.raises(AresError, match=r"withholds the answers.*evaluate\.split=val.*leaderboard\.json"):
        validate(configured(tmp_path, "data=aokvqa", "evaluate.split=test"))
    rows = [
        {"pid": split, "question": "?", "choices": ["a", "b"], "split": split, "solution": "So."}
        | ({} if split == "test" else {"answer": 0})
        for split in ("train", "val", "test")
    ]
    (tmp_path / "problems.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    custom = configured(tmp_path, "data=custom", f"data.root={tmp_path}", "teacher=overlap")
    with pytest.raises(AresError, match=r"test split of data=custom has no question.*evaluate\.split=val"):
        run_stage(custom)
    assert not (tmp_path / "runs/a/manifest.json").exists()


def test_leaderboard_warning_counts_unreadable_answers(problems, tmp_path: Path, capsys) -> None:
    found, splits = problems
    rows = [Prediction(pid, "", "", n or None, False) for n, pid in enumerate(splits["test"][:2])]
    write_leaderboard(tmp_path / "board.json", found, rows)
    assert "1 of 2 test questions have no readable answer" in capsys.readouterr().err
    board = read_json(tmp_path / "board.json")
    assert [board[row.pid]["multiple_choice"] in found[row.pid].choices for row in rows] == [True, True]
    write_leaderboard(tmp_path / "board.json", found, rows[1:])
    assert capsys.readouterr().err == ""


def test_answers_are_exported_under_their_own_split(problems, tmp_path: Path) -> None:
    found, splits = problems
    made = tmp_path / "predictions.jsonl"
    write_predictions(made, [Prediction(pid, "", f"Output {pid}.", None, False) for pid in splits["val"]])
    config = configured(tmp_path)
    assert config.evaluate.split == "test"
    [line] = _texts(config, {"predictions": made}, tmp_path / "export")
    content = read_json(tmp_path / "export/answers/predictions_ans_eval.json")
    assert line.endswith("answers/predictions_ans_eval.json")
    assert content["preds"] == [f"Output {pid}." for pid in splits["val"]]
    assert content["labels"] == [f"The answer is ({LETTERS[found[pid].answer]})." for pid in splits["val"]]
