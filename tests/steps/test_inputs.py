"""Curves of resumed fits, and the metrics that wandb gets."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
import pytorch_lightning as pl

from ares.config import validation
from ares.config.schema import Config
from ares.report.build import read_curves
from ares.steps.common import tracking
from ares.steps.common.contract import StepContext
from ares.steps.common.curves import CurveLogger, rows_of
from ares.steps.common.inputs import log_metrics, loggers_of
from ares.steps.common.tracking import StepFiles, log_files
from ares.storage.tables import write_feedback, write_rollouts
from ares.types import AresError, Feedback, Rollout, Span
from tests.support.composed import composed
from tests.support.interrupting import KillAt, Killed
from tests.support.ppo import RL, make_buffer, tiny_policy, train
from tests.support.wandb_record import artifacts, run_and_summary


def configured(*overrides: str) -> Config:
    return composed("experiment=demo", *overrides)


def log_steps(root: Path, steps: range, *, epoch: int, new: str | None = None) -> Path:
    """Logs rows as a fit does that begins at the first of `steps`; returns the path of its metrics.csv."""
    context = StepContext(root, "round-1/ppo", root / "round-1/ppo", 1, configured(), "0123456789abcdef")
    [logger] = loggers_of(context.config, context)
    logger.save()  # as Lightning does when a fit begins
    if steps:
        logger.resume(steps[0])
    for step in steps:
        logger.log_metrics({"train/loss": 10.0 * epoch + step, **({new: 1.0} if new else {})}, step=step)
    logger.finalize("success")
    return root / "logs/round-1/ppo/metrics.csv"


def test_resumed_fit_continues_curves(tmp_path: Path) -> None:
    path = log_steps(tmp_path, range(5), epoch=0)
    log_steps(tmp_path, range(3, 6), epoch=1, new="train/entropy")
    curves = read_curves(path)
    assert curves["round-1/ppo/train/loss"] == [[0, 0], [1, 1], [2, 2], [3, 13], [4, 14], [5, 15]]
    assert [step for step, _ in curves["round-1/ppo/train/entropy"]] == [3, 4, 5]
    # A fit that was killed after its end logs nothing and keeps its curves.
    before = path.read_text()
    log_steps(tmp_path, range(0), epoch=2)
    assert path.read_text() == before
    # From its beginning it has new curves.
    log_steps(tmp_path, range(2), epoch=3)
    assert read_curves(path) == {"round-1/ppo/train/loss": [[0, 30], [1, 31]]}


@pytest.mark.parametrize("torn", ["7", "7,", "7,0.5,1"])
def test_half_written_row_is_ignored(tmp_path: Path, torn: str) -> None:
    path = log_steps(tmp_path, range(2), epoch=0)
    with path.open("a") as file:
        file.write(torn)
    assert read_curves(path) == {"round-1/ppo/train/loss": [[0, 0], [1, 1]]}
    log_steps(tmp_path, range(2, 4), epoch=1)
    assert read_curves(path) == {"round-1/ppo/train/loss": [[0, 0], [1, 1], [2, 12], [3, 13]]}


def test_curves_of_a_killed_fit_are_those_of_an_uninterrupted_one(tmp_path: Path) -> None:
    rl = replace(RL, ppo_epochs=3, micro_batch_size=4)

    def curves(folder: Path, *callbacks: pl.Callback) -> list[dict[str, str]]:
        policy = tiny_policy()
        file = folder / "logs/metrics.csv"
        logger, buffer = CurveLogger(file, "ppo"), make_buffer(policy, questions=6, holdout=0.2)
        train(policy, buffer, folder, rl, callbacks=callbacks, minutes=0, logger=logger)
        return [{k: v for k, v in row.items() if "tokens_per_second" not in k} for row in rows_of(file)]

    expected = curves(tmp_path / "complete")
    for epoch, batch in [(0, 2), (1, 3), (2, 0), (3, 3)]:
        with pytest.raises(Killed):
            curves(tmp_path / "killed", KillAt(epoch, batch))
    assert curves(tmp_path / "killed") == expected
    steps = [int(row["step"]) for row in expected if row["ppo/train/loss"]]
    assert steps == sorted(set(steps))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch) -> None:
    """wandb writes to a temporary folder only."""
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")


def test_wandb_gets_metrics_of_all_steps_and_configuration(tmp_path: Path, offline: None) -> None:
    import wandb

    config = configured("logger=wandb", "rl.kl_coef=0.25", "logger.group=search")
    steps = {
        "round-1/assess": {"supporting": 0.75, "repetition": 0.125},
        "final/evaluate": {"accuracy/AVG": 62.5},
    }
    log_metrics(replace(config, logger=replace(config.logger, name="csv")), tmp_path, steps)
    assert not (tmp_path / "wandb").exists()
    log_metrics(config, tmp_path, steps)
    wandb.finish()
    wandb.teardown()  # returns when the file is complete
    [log] = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    run, summary = run_and_summary(log)
    assert run["group"] == "search"
    assert run["config"]["rl"]["kl_coef"] == pytest.approx(0.25)
    expected = {f"{key}/{name}": v for key, step in steps.items() for name, v in step.items()}
    assert {name: summary[name] for name in expected} == expected


@pytest.fixture
def scored(tmp_path: Path) -> dict[str, StepFiles]:
    """Two steps of the run `mine`, whose rollouts another run wrote."""
    spans = (Span(0, 6), Span(7, 10))
    rows = [
        Rollout(f"1/{n}", "1", n, "It is. So.", (1, 2), False, spans, (0, 1), (0.0,) * 2, (0.0,) * 2)
        for n in (0, 1)
    ]
    others, own = tmp_path / "shared/rollout-1-ab/made", tmp_path / "mine/round-1"
    write_rollouts(others / "part-0.parquet", rows)
    scored = [Feedback("1/0", (1.0, 0.5), "ok"), Feedback("1/1", None, "quarantined", "no JSON")]
    write_feedback(own / "feedback.parquet", scored)
    (own / "ppo/policy").mkdir(parents=True)
    (own / "ppo/policy/model.bin").write_bytes(b"weights")
    rollouts, feedback = (others, "a1"), (own / "feedback.parquet", "b2")
    return {
        "score": StepFiles(
            "round-1/score", {"data": (tmp_path, "00"), "rollouts": rollouts}, {"feedback": feedback}
        ),
        "ppo": StepFiles("round-1/ppo", {"feedback": feedback}, {"policy": (own / "ppo/policy", "c3")}),
        "evaluate": StepFiles("final/evaluate", {}, {"scores": (tmp_path / "absent", "d4")}),
    }


ROLLOUTS = {"sha256": "a1", "artifact": "shared-rollout-1-ab-made"}


def test_wandb_gets_scored_rollouts_and_artifacts_with_lineage(
    tmp_path: Path, offline: None, scored: dict[str, StepFiles]
) -> None:
    import wandb

    root, config = tmp_path / "mine", configured("logger=wandb", "run=mine", f"paths.runs={tmp_path}")
    for step in scored.values():
        log_files(replace(config, logger=replace(config.logger, name="csv")), root, step)
    assert not (root / "wandb").exists()
    for step in scored.values():
        log_files(config, root, step)
    wandb.finish()
    wandb.teardown()
    [log] = (root / "wandb").glob("offline-run-*/run-*.wandb")
    found = {a["name"]: a for a in artifacts(log)}
    feedback = {"sha256": "b2", "artifact": "mine-round-1-feedback"}
    assert {name: (a["type"], a["metadata"]) for name, a in found.items() if a["type"] != "run_table"} == {
        "mine-round-1-feedback": (
            "feedback",
            {
                "step": "round-1/score",
                "sha256": "b2",
                "inputs": {"data": {"sha256": "00"}, "rollouts": ROLLOUTS},
            },
        ),
        "mine-round-1-ppo-policy": (
            "policy",
            {"step": "round-1/ppo", "sha256": "c3", "inputs": {"feedback": feedback}},
        ),
    }
    weights = root / "round-1/ppo/policy/model.bin"
    assert found["mine-round-1-ppo-policy"]["references"] == [weights.as_uri()]
    [table] = log.parent.glob("files/media/table/round-1/score/rollouts_*.table.json")
    assert json.loads(table.read_text())["data"] == [
        ["1/0", "1", 1, "It is.", 1.0],
        ["1/0", "1", 2, "So.", 0.5],
        ["1/1", "1", 1, "It is.", None],
        ["1/1", "1", 2, "So.", None],
    ]


def test_tensorboard_gets_the_names_of_the_csv(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    context = StepContext(tmp_path, "round-1/ppo", tmp_path, 1, configured(), "0123456789abcdef")
    for logger in loggers_of(configured("logger=tensorboard"), context):
        for step in range(3):
            logger.log_metrics({"train/loss": 2.0 * step}, step=step)
        logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("round-1/ppo/train/loss")] == [
        (0, 0.0),
        (1, 2.0),
        (2, 4.0),
    ]


def test_tensorboard_without_its_package_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(validation, "find_spec", lambda name: None)
    with pytest.raises(AresError, match="logger=tensorboard needs a package"):
        validation.validate(configured("logger=tensorboard"))


def test_wandb_online_uses_what_other_runs_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scored: dict[str, StepFiles]
) -> None:
    import wandb

    run = create_autospec(wandb.Run, instance=True, offline=False)
    monkeypatch.setattr(tracking, "wandb_logger", lambda *_: SimpleNamespace(experiment=run))
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    config = configured("logger=wandb", "run=mine", f"paths.runs={tmp_path}")
    for step in scored.values():
        log_files(config, tmp_path / "mine", step)
    [used] = [call.args[0] for call in run.use_artifact.call_args_list]
    assert (used.name, used.type, used.metadata) == (ROLLOUTS["artifact"], "rollouts", {"sha256": "a1"})
    logged = [call.args[0].name for call in run.log_artifact.call_args_list]
    assert logged == ["mine-round-1-feedback", "mine-round-1-ppo-policy"]
