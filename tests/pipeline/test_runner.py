"""The run folder: finished steps are kept, killed runs resume, changes are refused."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from ares.config.schema import Config
from ares.pipeline.headline import headline as headline_of
from ares.pipeline.manifest import StepEntry, artefact_at, read_manifest, write_entry
from ares.pipeline.plan import full_plan
from ares.pipeline.runner import is_finished, run_stage
from ares.steps.common.contract import StepContext, StepResult
from ares.storage.files import sha256_path
from ares.types import AresError
from tests.support.composed import composed

# Outputs that are folders; rollouts are in their step's own.
FILES = {"policy": "policy", "value": "value", "adapter": "adapter", "rollouts": "."}
STEPS = (
    "rationale",
    "assess",
    "rollout",
    "score",
    "ppo",
    "generate",
    "correct",
    "sft",
    "lora",
    "evaluate",
    "judge",
)


class Killed(Exception):
    """What ends a run in its middle."""


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Replaces every step by one that writes its outputs and records its key; dies at `calls_fail.key`."""
    made: list[str] = []

    def step(config: Config, context: StepContext) -> StepResult:
        if getattr(calls_fail, "key", None) == context.key:
            raise Killed
        made.append(context.key)
        plan = next(step for step in full_plan(config) if step.key == context.key)
        files = {}
        for name in plan.spec.writes:
            target = context.folder / FILES.get(name, f"{name}.parquet")
            target.parent.mkdir(parents=True, exist_ok=True)
            content = f"{context.key} {config.seed} {sorted(sha256_path(p) for p in context.inputs.values())}"
            if name in FILES:
                target.mkdir(exist_ok=True)
                (target / "config.json").write_text(content)
            else:
                target.write_text(content)
            files[name] = target
        return StepResult(files, {"metric": 1.0}, usd=0.5, requests=2)

    calls_fail.key = None
    for name in STEPS:
        monkeypatch.setattr(importlib.import_module(f"ares.steps.{name}"), name, step)
    return made


class calls_fail:
    key: str | None = None


def plan(rounds: int) -> list[str]:
    """The keys of all steps."""
    return [step.key for step in full_plan(composed(f"rounds={rounds}"))]


def config(tmp_path: Path, *overrides: str, runs: str = "runs") -> Config:
    base = [
        "experiment=demo",
        "features=none",
        "data.sizes={train: 8, val: 4, test: 4}",
        "stage.steps=[rationale,start/assess,baseline/generate,baseline/lora,baseline/evaluate,rollout,score,ppo,"
        "round/assess,round/generate,correct,sft,final/generate,final/assess,lora,evaluate,judge]",
    ]
    return composed(*base, *overrides, runs=tmp_path / runs)


def test_all_steps_run_in_order_and_are_recorded(tmp_path, calls, capsys) -> None:
    run_stage(config(tmp_path, "rounds=2"))
    assert calls == plan(2)
    root = tmp_path / "runs" / "demo"
    manifest = read_manifest(root)
    entry = manifest["round-2/ppo"]
    assert set(entry.inputs) == {"policy", "value", "rollouts", "feedback", "data"}
    assert entry.inputs["policy"].path == "round-1/sft/policy"
    assert entry.outputs["policy"].sha256 == sha256_path(root / "round-2/ppo/policy")
    assert (entry.usd, entry.requests, entry.metrics) == (0.5, 2, {"metric": 1.0})
    assert "torch" in entry.versions
    calls.clear()
    run_stage(config(tmp_path, "rounds=2"))
    assert calls == []
    assert "nothing to do" in capsys.readouterr().out
    assert read_manifest(root) == manifest


def test_relative_run_folder_is_the_same_folder(tmp_path, calls, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_stage(config(Path()))
    assert calls == plan(1)
    calls.clear()
    run_stage(config(tmp_path))
    assert calls == []


def test_killed_run_resumes(tmp_path, calls) -> None:
    calls_fail.key = "round-1/ppo"
    with pytest.raises(Killed):
        run_stage(config(tmp_path))
    done = list(calls)
    calls_fail.key = None
    calls.clear()
    run_stage(config(tmp_path))
    assert done + calls == plan(1)


def test_refusal_names_changed_setting_and_invalidated_steps(tmp_path, calls) -> None:
    run_stage(config(tmp_path))
    calls.clear()
    with pytest.raises(AresError, match=r"rl\.clip_range \(0\.2 → 0\.1\).*round-1/generate.*on_change=rerun"):
        run_stage(config(tmp_path, "rl.clip_range=0.1"))
    assert calls == []


def test_dry_run_of_another_teacher_changes_nothing(tmp_path, calls) -> None:
    run_stage(config(tmp_path))
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = ("stage=score", "teacher=anthropic", "stage.steps=[score]")
    with pytest.raises(AresError, match="was made with another teacher"):
        run_stage(config(tmp_path, *other))
    calls_fail.key = "round-1/score"  # where the step itself ends the program
    with pytest.raises(Killed):
        run_stage(config(tmp_path, *other, "teacher.dry_run=true"))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_last_line_of_a_step_prints_its_headline_metrics() -> None:
    def headline(name: str, metrics: dict[str, float]) -> str:
        step = next(step for step in full_plan(composed()) if step.name == name)
        return headline_of(step, StepResult({}, metrics))

    scores = {f"accuracy/{name}": 50.0 for name in ("NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "AVG")}
    assert headline("evaluate", {**scores, "accuracy/AVG": 71.25}) == "accuracy/AVG 71.25 % · "
    # Shares and percentages in one unit; no 3.84e-233.
    tiny = headline("evaluate", {"accuracy/AVG": 50.0, "bleu4": 3.84e-233, "rouge_l": 0.23456})
    assert tiny == "accuracy/AVG 50 % · bleu4 0 % · rouge_l 23.46 % · "
    assert headline("lora", {"val/accuracy": 0.5, "loss": 1e-300}) == "val/accuracy 50 % · loss 0 · "
    assert headline("ppo", {"train/loss": 0.4, "train/score": 0.5}) == "train/score 0.5 · "
    found = headline("generate", {f"{s}/tokens": 9.0 for s in ("train", "val")})
    assert found == "train/tokens 9 · val/tokens 9 · "


def test_rerun_runs_changed_step_and_its_followers(tmp_path, calls) -> None:
    run_stage(config(tmp_path))
    calls.clear()
    # The fake steps' outputs depend on the seed alone.
    run_stage(config(tmp_path, "sft.lr=1e-5", "on_change=rerun"))
    assert calls == ["round-1/sft"]
    calls.clear()
    run_stage(config(tmp_path, "seed=1", "sft.lr=1e-5", "on_change=rerun"))
    assert calls == plan(1)


def test_keep_leaves_changed_step_as_it_is(tmp_path, calls, capsys) -> None:
    run_stage(config(tmp_path))
    calls.clear()
    capsys.readouterr()
    run_stage(config(tmp_path, "rl.clip_range=0.1", "on_change=keep"))
    printed = capsys.readouterr()
    assert "round-1/ppo: kept, though it was made with another rl.clip_range (0.2 → 0.1)" in printed.out
    assert printed.err == ""
    # Bytes that somebody, or a disk, has changed are kept too, but not without a warning.
    (tmp_path / "runs/demo/round-1/feedback.parquet").write_text("edited")
    run_stage(config(tmp_path, "on_change=keep"))
    warnings = capsys.readouterr().err.splitlines()
    assert warnings[0].startswith(
        "warning: round-1/score: kept, though it has an output altered since it was"
    )
    assert calls == []


def test_rl_settings_do_not_touch_rollouts(tmp_path, calls) -> None:
    run_stage(config(tmp_path))
    calls.clear()
    run_stage(config(tmp_path, "rl.kl_coef=0.5", "on_change=rerun"))
    assert "round-1/rollouts" not in calls
    assert "round-1/score" not in calls
    assert "round-1/ppo" in calls


def test_second_writer_is_refused(tmp_path, calls) -> None:
    root = tmp_path / "runs" / "demo"
    root.mkdir(parents=True)
    with FileLock(root / ".lock"), pytest.raises(AresError, match="another process"):
        run_stage(config(tmp_path))
    assert calls == []


def test_stage_starts_from_policy_of_another_run(tmp_path, calls) -> None:
    run_stage(config(tmp_path))
    calls.clear()
    rl = ("stage=rl", "stage.steps=[rollout,score,ppo]", "run=second")
    run_stage(config(tmp_path, *rl, "policy=demo"))
    assert calls == ["round-1/rollouts", "round-1/score", "round-1/ppo"]
    entry = read_manifest(tmp_path / "runs" / "second")["round-1/rollouts"]
    assert entry.inputs["policy"].path == str((tmp_path / "runs/demo/round-1/sft/policy").resolve())
    with pytest.raises(AresError, match="neither a folder"):
        run_stage(config(tmp_path, *rl[:2], "run=third", "policy=nowhere"))


def test_missing_input_is_named_with_the_command_that_makes_it(tmp_path, calls) -> None:
    missing = r"round-1/ppo needs feedback of round-1/score.*python train\.py stage=score run=demo"
    with pytest.raises(AresError, match=missing):
        run_stage(config(tmp_path, "stage=ppo", "stage.steps=[ppo]", "policy=" + _policy(tmp_path)))


def _policy(tmp_path: Path) -> str:
    policy = tmp_path / "policy"
    policy.mkdir()
    (policy / "config.json").write_text("{}")
    (tmp_path / "runs/demo/round-1/rollouts").mkdir(parents=True)
    root = tmp_path / "runs/demo"
    rollouts = artefact_at(root / "round-1/rollouts", root)
    write_entry(root, "round-1/rollouts", StepEntry("0", {}, {}, {"rollouts": rollouts}))
    return str(policy)


def test_altered_output_is_refused_and_restored_by_rerun(tmp_path, calls, capsys) -> None:
    run_stage(config(tmp_path))
    feedback = tmp_path / "runs/demo/round-1/feedback.parquet"
    content = feedback.read_text()
    os.utime(feedback, (1, 1))  # touched, not altered
    calls.clear()
    run_stage(config(tmp_path))
    assert calls == []
    feedback.write_text("edited")
    with pytest.raises(
        AresError, match=r"round-1/score has an output altered since it was made \(feedback\); it and"
    ):
        run_stage(config(tmp_path))
    with pytest.raises(AresError, match=r"feedback\.parquet was altered since round-1/score wrote it"):
        run_stage(config(tmp_path, "stage=ppo", "stage.steps=[ppo]"))
    assert calls == []
    run_stage(config(tmp_path, "on_change=rerun"))
    assert calls == ["round-1/score"]
    assert feedback.read_text() == content


def test_deleted_part_of_an_output_is_noticed(tmp_path, calls) -> None:
    run_stage(config(tmp_path))
    (tmp_path / "runs/demo/round-1/rollouts/config.json").unlink()
    with pytest.raises(AresError, match=r"an output altered since it was made \(rollouts\)"):
        run_stage(config(tmp_path))


def test_killed_rerun_does_not_count_as_finished(tmp_path, calls, capsys) -> None:
    run_stage(config(tmp_path))
    calls_fail.key = "round-1/ppo"
    with pytest.raises(Killed):
        run_stage(config(tmp_path, "rl.kl_coef=0.9", "on_change=rerun"))
    calls_fail.key = None
    calls.clear()
    run_stage(config(tmp_path))
    assert calls[0] == "round-1/ppo"
    assert "nothing to do" not in capsys.readouterr().out


def test_refused_change_leaves_saved_configuration(tmp_path, calls) -> None:
    run_stage(config(tmp_path))
    saved = (tmp_path / "runs/demo/config.yaml").read_text()
    with pytest.raises(AresError, match="clip_range"):
        run_stage(config(tmp_path, "rl.clip_range=0.1"))
    assert (tmp_path / "runs/demo/config.yaml").read_text() == saved


def test_lock_is_released_after_the_run(tmp_path, calls) -> None:
    run_stage(config(tmp_path))
    with FileLock(tmp_path / "runs/demo/.lock", timeout=0):
        pass


def test_lock_file_of_a_dead_process_blocks_nobody(tmp_path, calls) -> None:
    lock = tmp_path / "runs/demo/.lock"
    lock.parent.mkdir(parents=True)
    code = f"import os; from filelock import FileLock; FileLock({str(lock)!r}).acquire(); os._exit(1)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
    assert lock.exists()
    run_stage(config(tmp_path))
    assert calls == plan(1)


def test_moved_runs_continue(tmp_path, calls, capsys) -> None:
    calls_fail.key = "round-1/ppo"
    with pytest.raises(Killed):
        run_stage(config(tmp_path))
    done = list(calls)
    calls_fail.key = None
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    run_stage(config(tmp_path, runs="elsewhere"))
    assert calls == plan(1)
    assert done == calls[: len(done)]
    assert not (tmp_path / "runs").exists()


def test_device_steps_run_in_groups_on_several_devices(tmp_path, calls, monkeypatch) -> None:
    import torch

    grouped = []

    def in_group(config: Config, context: StepContext, name: str) -> StepResult:
        grouped.append(name)
        return getattr(importlib.import_module(f"ares.steps.{name}"), name)(config, context)

    monkeypatch.setattr("ares.pipeline.runner.run_in_group", in_group)
    run_stage(config(tmp_path, "strategy=ddp", "trainer.devices=2"))
    assert calls == plan(1)
    assert grouped == [step.name for step in full_plan(composed()) if step.spec.runs_on == "device"]
    assert {"rationale", "assess", "rollout", "ppo", "generate", "sft", "lora"} == set(grouped)
    assert not torch.distributed.is_initialized()
    assert not torch.cuda.is_initialized()


def test_steps_before_ppo_run_once_for_all_jobs_of_a_sweep(tmp_path, calls, capsys) -> None:
    run_stage(config(tmp_path, "stage=rationale", "stage.steps=[rationale]"))
    calls.clear()
    rl = ("stage=rl", "stage.steps=[rollout,score,ppo]", "policy=demo", "sweep.of=demo")
    jobs = [config(tmp_path, *rl, f"run=demo/sweep/{kl}", f"rl.kl_coef={kl}") for kl in (0.1, 0.2)]
    run_stage(jobs[0], shared_only=True)
    assert calls == ["round-1/rollouts", "round-1/score"]
    for job in jobs:
        assert not is_finished(job)
        run_stage(job)
        assert is_finished(job)
    assert calls == ["round-1/rollouts", "round-1/score", "round-1/ppo", "round-1/ppo"]
    entries = [read_manifest(tmp_path / "runs/demo/sweep" / kl) for kl in ("0.1", "0.2")]
    assert entries[0]["round-1/score"].outputs == entries[1]["round-1/score"].outputs
    assert all((e["round-1/score"].usd, e["round-1/score"].requests) == (0, 0) for e in entries)
    [folder_of_scores] = (tmp_path / "runs/shared").glob("score-*")
    assert json.loads((folder_of_scores / "entry.json").read_text())["requests"] == 2
    # A data set that does not exist yet is not a mistake: the job will make it.
    assert not is_finished(
        config(tmp_path, *rl, "run=demo/sweep/0.1", "features=patches", "data.sizes.train=9")
    )
    # Another seed is another rollout.
    run_stage(config(tmp_path, *rl, "run=demo/sweep/seed", "seed=1"), shared_only=True)
    assert calls[-2:] == ["round-1/rollouts", "round-1/score"]
