"""Commands that run no step import nothing large and prepare nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from ares.pipeline.runner import run_stage
from ares.steps import evaluate
from ares.steps.common.contract import StepContext, StepResult
from ares.types import AresError
from tests.support.composed import composed

LARGE = (
    "torch",
    "transformers",
    "pytorch_lightning",
    "pyarrow",
    "pandas",
    "wandb",
    "peft",
    "timm",
    "anthropic",
)
COMMAND = f"""
import sys
from ares.__main__ import main
try:
    main()
finally:
    print("imported:", [name for name in {LARGE} if name in sys.modules])
"""


def ares(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, which prints at its end which large packages were imported."""
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=False
    )


def test_help_imports_nothing_large() -> None:
    done = ares("--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("imported: []\n")


def test_finished_run_imports_nothing_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(config: object, context: StepContext) -> StepResult:
        (context.folder / "scores.json").write_text("{}")
        return StepResult({"scores": context.folder / "scores.json"})

    monkeypatch.setattr(evaluate, "evaluate", step)
    published = tmp_path / "published"
    published.mkdir()
    (published / "predictions_ans_test.json").write_text("{}")
    run = ["experiment=demo", "stage=evaluate", "data.sizes={train: 8, val: 4, test: 4}", "features=none"]
    run += [f"evaluate.predictions={published}", f"paths.runs={tmp_path / 'runs'}", "trainer.threads=1"]
    run_stage(composed(*run))
    done = ares(*run)
    assert "nothing to do" in done.stdout, done.stderr
    assert done.stdout.endswith("imported: []\n")


def test_missing_policy_is_refused_before_anything_is_prepared(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done = ares("experiment=demo", "stage=rl", f"paths.runs={runs}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error:") == 1
    assert "needs policy of rationale" in done.stderr
    assert done.stdout == "imported: []\n"
    assert not runs.exists()


def test_typos_and_what_steps_refuse_are_reported_at_once(tmp_path: Path) -> None:
    wrong = ["rl.klcoef=1", "rl.objective=grpo", "rl.k=1", "teacher=oracle", "data=scienceqa"]
    done = ares(*wrong, "strategy=single", "trainer.devices=2", f"paths.runs={tmp_path}")
    assert done.returncode == 2
    for part in ("'rl.kl_coef'", "use rl.k=2 or more", "teacher=oracle knows", "runs on one device, not 2"):
        assert done.stderr.count(part) == 1, done.stderr


def test_missing_inputs_settings_and_data_are_refused_at_once(tmp_path: Path) -> None:
    config = composed(
        "experiment=demo",
        "stage=rl",
        "data=scienceqa",
        f"data.root={tmp_path / 'absent'}",
        "rl.objective=grpo",
        "rl.k=1",
        f"paths.runs={tmp_path}",
    )
    with pytest.raises(AresError) as error:
        run_stage(config)
    lines = str(error.value).splitlines()
    for part in ("needs policy of rationale", "use rl.k=2", "teacher=oracle knows", "There is no data in"):
        assert sum(part in line for line in lines) == 1, lines
    assert not list(tmp_path.iterdir())
