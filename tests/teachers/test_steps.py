"""The steps that ask a Teacher, with a loopback server in place of Claude."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from omegaconf import OmegaConf

from ares import interrupts
from ares.config.command_line import mistakes_in
from ares.config.compose import to_plain
from ares.pipeline.plan import steps_of
from ares.pipeline.runner import run_stage
from ares.pipeline.stale import settings_of
from ares.steps.common.asking import check_asking, make_teacher, teacher_warnings
from ares.steps.common.contract import StepContext
from ares.steps.correct import correct
from ares.steps.judge import judge
from ares.steps.score import score
from ares.storage.files import read_jsonl, write_json
from ares.storage.tables import (
    read_corrections,
    read_feedback,
    read_verdicts,
    write_rationales,
    write_rollouts,
)
from ares.teachers.ledger.ledger import Ledger
from ares.types import AresError, Rationale, Rollout, Span
from tests.support.composed import composed

REPOSITORY = Path(__file__).resolve().parents[2]
QUESTIONS = 30


@pytest.fixture
def inputs(tmp_path) -> Path:
    """Problems, two rollouts each (one of question 1 is empty), and greedy rationales."""
    fields = dict.fromkeys(("hint", "lecture", "subject", "topic", "category", "skill", "grade", "task"), "")
    problems, rollouts, greedy = {}, [], []
    for number in range(1, QUESTIONS + 1):
        pid = str(number)
        question = {"question": f"Is {pid} a number?", "choices": ["yes", "no"], "answer": 0, "image": None}
        problems[pid] = {**fields, **question, "solution": "THE SOLUTION", "split": "train"}
        text = f"Solution: It is {pid}. So yes."
        spans = (Span(0, text.index(" So")), Span(text.index("So"), len(text)))
        for sample in (0, 1):
            empty = (number, sample) == (1, 1)
            parts = ("", (), ()) if empty else (text.replace("So", "As"[sample] + "o"), spans, (3, 5))
            rollouts.append(
                Rollout(
                    f"{pid}/{sample}",
                    pid,
                    sample,
                    parts[0],
                    (1,) * 6,
                    False,
                    *parts[1:],
                    (0.0,) * 6,
                    (0.0,) * 6,
                )
            )
        greedy.append(Rationale(pid, f"{text} So yes.", (1,), False))
    write_json(tmp_path / "data" / "problems.json", problems)
    write_json(tmp_path / "data" / "pid_splits.json", {"train": list(problems), "val": [], "test": []})
    write_rollouts(tmp_path / "rollouts" / "part-0.parquet", rollouts)
    write_rationales(tmp_path / "rationales.parquet", greedy)
    others = [Rationale(row.pid, f"No, {row.pid} it is not.", (1,), False) for row in greedy]
    write_rationales(tmp_path / "others.parquet", others)
    return tmp_path


def config_of(inputs: Path, server, *overrides: str):
    own = (
        *("teacher=anthropic", f"teacher.base_url={server.url}", f"paths.ledger={inputs}/ledger.sqlite"),
        *("data=scienceqa", f"data.root={inputs}/data", f"judge.against={inputs}/others.parquet"),
    )
    return composed(*own, *overrides)


def run_of(inputs: Path, config) -> StepContext:
    names = ("data", "rollouts")
    paths = {name: inputs / name for name in names}
    paths |= {"rationales": inputs / "rationales.parquet", "rationales-test": inputs / "rationales.parquet"}
    return StepContext(inputs / "run", "step", inputs / "run", 1, config, "0" * 64, paths)


def do(step, inputs: Path, server, *overrides: str):
    config = config_of(inputs, server, *overrides)
    return step(config, run_of(inputs, config))


def priced(inputs: Path) -> float:
    """The recorded tokens at the price of claude-haiku-5-5, US dollars."""
    db = sqlite3.connect(inputs / "ledger.sqlite")
    [tokens] = db.execute("SELECT sum(input_tokens), sum(output_tokens), count(reply) FROM requests")
    db.close()
    assert tokens[2] == QUESTIONS
    return (0.10 * tokens[0] + 0.50 * tokens[1]) / 1e6


def test_score_correct_and_judge(loopback, inputs):
    server = loopback()
    result = do(score, inputs, server)
    feedback = read_feedback(inputs / "run" / "feedback.parquet")
    assert [row.status for row in feedback[:2]] == ["ok", "empty"]
    assert all(len(row.scores) == 2 for row in feedback if row.status == "ok")
    assert result.requests == QUESTIONS
    assert result.usd == pytest.approx(priced(inputs))
    assert result.usd > 0
    assert result.metrics["empty"] == pytest.approx(1 / 60)
    do(correct, inputs, server)
    corrections = read_corrections(inputs / "run" / "corrections.parquet")
    assert corrections[0].corrected == "It is 1. So yes. So the answer is clear."
    result = do(judge, inputs, server)
    verdicts = read_verdicts(inputs / "run" / "verdicts.parquet")
    assert {row.winner for row in verdicts} <= {"a", "b", "tie"}
    assert result.requests == 2 * QUESTIONS
    assert not list((inputs / "run").glob("*quarantine*"))


def test_repeated_requests_cost_nothing(loopback, inputs):
    server = loopback()
    do(score, inputs, server, "teacher.group=1")
    assert len(server.hashes) == 59
    config = config_of(inputs, server, "teacher.group=1", "teacher.concurrency=3")
    result = score(config, replace(run_of(inputs, config), folder=inputs / "other"))
    assert (result.requests, result.usd) == (0, 0.0)
    assert len(server.hashes) == 59


def test_too_many_quarantined_replies_stop_the_step_early(loopback, inputs):
    server = loopback(content_script=["wrong_count", "wrong_count"])
    with pytest.raises(AresError, match=r"max_quarantine=0\.02 allows: 1 scores for 2 sentences") as caught:
        do(score, inputs, server, "teacher.group=1", "teacher.concurrency=1")
    assert len(server.hashes) < 12  # two of 60 rows are too many; the rest is not sent
    assert not (inputs / "run" / "feedback.parquet").exists()
    rows = read_jsonl(inputs / "run" / "feedback-quarantine.jsonl")
    assert {"id", "reason", "reply", "request_hash"} == rows[0].keys()
    for way in (f"{inputs}/run/feedback-quarantine.jsonl", "raise teacher.max_quarantine", "teacher.model"):
        assert way in str(caught.value)
    assert rows[0]["reply"].startswith('{"scores"')


def test_quarantined_rows_have_no_scores_and_are_counted(loopback, inputs):
    server = loopback(faults=0.3, kinds=["refusal"])
    result = do(score, inputs, server, "teacher.group=1", "teacher.max_quarantine=0.9")
    feedback = read_feedback(inputs / "run" / "feedback.parquet")
    quarantined = [row for row in feedback if row.status == "quarantined"]
    assert quarantined
    assert all(row.scores is None and row.reason and row.request_hash for row in quarantined)
    assert result.metrics["quarantined"] == len(quarantined) / 60
    assert len(read_jsonl(inputs / "run" / "feedback-quarantine.jsonl")) == len(quarantined)


@pytest.mark.parametrize("step", [score, correct, judge])
def test_corrupt_image_quarantines_only_its_own_question(step, loopback, inputs, capsys):
    image = inputs / "data" / "images" / "2" / "image.png"
    image.parent.mkdir(parents=True)
    image.write_text("no image")
    problems = json.loads((inputs / "data" / "problems.json").read_text())
    problems["2"]["image"] = "image.png"
    write_json(inputs / "data" / "problems.json", problems)
    server = loopback()
    do(step, inputs, server, "teacher.max_quarantine=0.1")
    [path] = (inputs / "run").glob("*-quarantine.jsonl")
    rows = read_jsonl(path)
    assert {re.split(r"[/,]", row["id"])[0] for row in rows} == {"2"}
    assert all("image.png is not an image" in row["reason"] for row in rows)
    asked = (QUESTIONS - 1) * (2 if step is judge else 1)
    assert len(server.hashes) == asked
    with pytest.raises(SystemExit):
        do(step, inputs, server, "teacher.dry_run=true")
    assert f"0 to send, 100.0% of {asked} " in capsys.readouterr().out


@pytest.mark.parametrize("policy", ["drop", "keep_own"])
def test_refused_correction_is_never_replaced_by_the_solution(policy, loopback, inputs):
    server = loopback(content_script=["refusal", "refusal"])
    overrides = ("teacher.max_quarantine=1", f"correct.on_quarantine={policy}")
    result = do(correct, inputs, server, *overrides)
    rows = read_corrections(inputs / "run" / "corrections.parquet")
    assert result.metrics["quarantined"] == 1.0
    if policy == "drop":
        assert {(row.status, row.corrected) for row in rows} == {("quarantined", None)}
    else:
        assert all(row.corrected == row.deduplicated for row in rows)
        assert all("refused" in row.reason for row in rows)
    assert not any("THE SOLUTION" in str(row) for row in rows)


def test_empty_rationale_is_not_kept(loopback, inputs):
    write_rationales(inputs / "rationales.parquet", [Rationale("1", "", (), False)])
    server = loopback(content_script=["refusal", "refusal"])
    do(correct, inputs, server, "teacher.max_quarantine=1", "correct.on_quarantine=keep_own")
    [row] = read_corrections(inputs / "run" / "corrections.parquet")
    assert (row.status, row.corrected) == ("quarantined", None)


def test_dry_run_prints_the_cost_and_sends_nothing(loopback, inputs, capsys):
    server = loopback()
    with pytest.raises(SystemExit) as ended:
        do(score, inputs, server, "teacher.dry_run=true")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "30 to send, 0.0% of 30 are in the ledger" in text
    assert "by 20 that the service counted" in text
    assert "USD" in text
    assert "min at concurrency 16" in text
    assert server.hashes == []
    do(score, inputs, server)
    with pytest.raises(SystemExit):
        do(score, inputs, server, "teacher.dry_run=true")
    assert "0 to send, 100.0% of 30" in capsys.readouterr().out


def test_dry_run_of_batches_prints_no_minutes(loopback, inputs, capsys):
    server = loopback()
    with pytest.raises(SystemExit):
        do(score, inputs, server, "teacher.dry_run=true", "teacher.batch=true")
    text = capsys.readouterr().out
    assert "time      within 24 hours, by Message Batches" in text
    assert " min" not in text
    # The time of a reply in a batch is not that of a request sent alone.
    do(score, inputs, server)
    db = sqlite3.connect(inputs / "ledger.sqlite")
    db.execute("UPDATE requests SET batch = 'b', asked = asked - 80000")
    db.execute("DELETE FROM requests WHERE rowid % 2")
    db.commit()
    db.close()
    with pytest.raises(SystemExit):
        do(score, inputs, server, "teacher.dry_run=true")
    assert "min at concurrency 16 (at 3 s per request)" in capsys.readouterr().out


def test_dry_run_without_price_or_key_prints_tokens(loopback, inputs, capsys, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(SystemExit):
        do(score, inputs, loopback(), "teacher.dry_run=true", "teacher.model=claude-unknown")
    text = capsys.readouterr().out
    assert "price     unknown" in text
    assert "(estimated)" in text


def test_paper_teacher_uses_the_papers_model_and_prompts(loopback, inputs):
    server = loopback()
    config = config_of(inputs, server, "teacher=paper")
    teacher = make_teacher(config)
    assert (teacher.model, teacher.grouped, teacher.structured) == ("claude-3-haiku-20240307", False, False)
    assert teacher.options == {"temperature": 0}
    assert do(score, inputs, server, "teacher=paper").requests == 59
    assert all(row.status in ("ok", "empty") for row in read_feedback(inputs / "run" / "feedback.parquet"))


@pytest.mark.parametrize(
    "setting",
    [
        *(f"max_quarantine={value}" for value in ("-0.1", "2", "nan", "true")),
        *(f"max_usd={value}" for value in ("lots", "-1", "nan", "inf", "true")),
        "dry_run=maybe",
    ],
)
def test_impossible_limits_of_a_step_are_refused(setting):
    [problem] = mistakes_in([f"teacher.{setting}"])
    assert problem.startswith(f"teacher.{setting.split('=')[0]}=")


def test_judge_without_common_questions_is_refused(loopback, inputs):
    write_rationales(inputs / "others.parquet", [Rationale("elsewhere", "No.", (1,), False)])
    with pytest.raises(AresError, match=r"judge\.against=.* has no rationale for any question"):
        do(judge, inputs, loopback())


def test_cap_needs_a_price(loopback, inputs):
    config = config_of(inputs, loopback(), "teacher.max_usd=1", "teacher.model=claude-unknown")
    with pytest.raises(AresError, match=r"conf/prices\.yaml"):
        teacher_warnings(config)


@pytest.mark.parametrize(
    ("ledger", "reason"),
    [("data", "is a folder"), ("file/ledger.sqlite", "is a file, .* cannot be created below it")],
)
def test_ledger_that_cannot_be_written_is_refused_before_anything_runs(inputs, ledger, reason):
    (inputs / "data").mkdir(exist_ok=True)
    (inputs / "file").write_text("")
    with pytest.raises(
        AresError, match=rf"replies cannot be recorded: .* {reason}; set paths\.ledger=<file>"
    ):
        check_asking(composed("teacher=overlap", f"paths.ledger={inputs / ledger}"))


def test_cap_stops_the_step_and_a_higher_one_resumes_it(loopback, inputs):
    server = loopback()
    with pytest.raises(AresError, match=r"teacher\.max_usd=0\.0005 is reached"):
        do(score, inputs, server, "teacher.max_usd=0.0005")
    paid = len(server.hashes)
    assert 0 < paid < QUESTIONS
    result = do(score, inputs, server, "teacher.max_usd=1")
    # Including what was paid before the stop.
    assert result.requests == QUESTIONS
    assert result.usd == pytest.approx(priced(inputs))
    assert len(set(server.hashes)) == len(server.hashes) == QUESTIONS


def test_signal_completes_open_requests_and_sends_no_others(loopback, inputs, monkeypatch):
    server = loopback(latency=0.3)
    monkeypatch.setattr(interrupts._State, "received", None)

    def stop_once_asked() -> None:
        while not server.hashes:
            time.sleep(0.01)
        interrupts._State.received = signal.SIGTERM

    Thread(target=stop_once_asked, daemon=True).start()
    with pytest.raises(interrupts.Interrupted) as ended:
        do(score, inputs, server, "teacher.concurrency=3")
    assert ended.value.code == 143
    sent = len(server.hashes)
    assert 0 < sent < QUESTIONS
    assert not interrupts._State.deferred
    monkeypatch.setattr(interrupts._State, "received", None)
    do(score, inputs, server)
    assert len(set(server.hashes)) == len(server.hashes) == QUESTIONS


def test_moved_runs_keep_what_they_have_paid(loopback, inputs):
    server = loopback()
    config = config_of(inputs, server)
    score(config, run_of(inputs, config))
    moved = inputs / "moved"
    moved.mkdir()
    for name in ("data", "run", "rollouts", "ledger.sqlite"):
        (inputs / name).rename(moved / name)
    config = config_of(moved, server)
    result = score(config, run_of(moved, config))
    assert result.requests == len(server.hashes) == QUESTIONS
    with Ledger(moved / "ledger.sqlite", payer="run") as ledger:
        assert ledger.spent() == pytest.approx(result.usd)


def test_key_is_in_no_file(loopback, inputs, caplog, capfd):
    server = loopback(faults=0.3, retry_wait=0.1)
    config = config_of(inputs, server, "teacher.timeout=0.4", "teacher.max_quarantine=1")
    context = run_of(inputs, config)
    context.folder.mkdir()
    (context.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(to_plain(config))))
    score(config, context)
    correct(config, context)
    files = [path for path in inputs.rglob("*") if path.is_file()]
    assert {"config.yaml", "feedback.parquet", "ledger.sqlite"} <= {path.name for path in files}
    assert not [path for path in files if server.key.encode() in path.read_bytes()]
    captured = capfd.readouterr()
    assert server.key not in captured.out + captured.err + caplog.text


def train(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}
    return subprocess.run(
        [sys.executable, "train.py", "experiment=demo", "teacher=anthropic", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        env={**clean, **environment},
    )


def test_missing_key_is_reported_before_training(tmp_path, loopback, inputs, monkeypatch):
    config = config_of(
        inputs, loopback(), "experiment=demo", "teacher=anthropic", f"paths.runs={tmp_path}/runs"
    )
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(AresError, match="set the environment variable ANTHROPIC_API_KEY"):
        run_stage(config)
    assert not list((tmp_path / "runs").rglob("[!.]*.*"))


@pytest.mark.slow
def test_full_run_writes_the_key_nowhere(loopback, tmp_path):
    server = loopback(faults=0.1, hang=3)
    done = train(
        *(f"paths.runs={tmp_path}/runs", f"teacher.base_url={server.url}", "teacher.timeout=2"),
        *("data.sizes={train: 48, val: 12, test: 12}", "model.d_model=32", "model.d_ff=64", "model.layers=1"),
        *("rationale.epochs=4", "rl.questions=24", "rl.k=2", "rl.max_new_tokens=40", "rl.eval_questions=4"),
        *("rl.global_batch_size=16", "rl.micro_batch_size=16", "rl.ppo_epochs=1", "lora.epochs=1"),
        *("generate.max_new_tokens=40", "logger=wandb", "teacher.max_quarantine=1"),
        ANTHROPIC_API_KEY=server.key,
        WANDB_MODE="offline",
        WANDB_DIR=str(tmp_path / "wandb"),
        WANDB_DATA_DIR=str(tmp_path / "wandb"),
        WANDB_CACHE_DIR=str(tmp_path / "wandb"),
        WANDB_CONFIG_DIR=str(tmp_path / "wandb"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.key not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert not [path for path in files if server.key.encode() in path.read_bytes()]
    manifest = json.loads((tmp_path / "runs/demo/manifest.json").read_text())
    assert manifest["steps"]["round-1/score"]["usd"] > 0


def test_judge_hashes_the_rationales_that_it_compares_with(loopback, inputs):
    config = config_of(inputs, loopback(), "stage=judge")
    [step] = steps_of(config)
    assert settings_of(step, config)["teacher"]["fingerprint"]["model"] == "claude-haiku-5-5"
    before = step.spec.files(config)
    write_rationales(inputs / "others.parquet", [Rationale("1", "Other.", (1,), False)])
    assert step.spec.files(config) != before
    config.judge.against = "absent"
    with pytest.raises(AresError, match=r"judge\.against"):
        step.spec.files(config)


def test_step_hash_ignores_how_requests_are_sent(loopback, inputs):
    server = loopback()
    [step] = steps_of(config_of(inputs, server, "stage=score"))
    plain = settings_of(step, config_of(inputs, server))
    for override in ("concurrency=3", "max_usd=1", "batch=true", "max_quarantine=0.5", "timeout=1"):
        assert settings_of(step, config_of(inputs, server, f"teacher.{override}")) == plain
    for override in ("model=claude-sonnet-5-5", "group=1", "options.thinking=null", "structured=false"):
        assert settings_of(step, config_of(inputs, server, f"teacher.{override}")) != plain
