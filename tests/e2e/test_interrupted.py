"""A run whose fits are ended again and again leaves the bytes of a run that nothing disturbed."""

import json
from pathlib import Path

import numpy as np
import pytest

from ares.modules.checkpoints import FitCheckpoints
from ares.pipeline.manifest import read_manifest
from ares.pipeline.runner import run_folder, run_stage
from ares.types import AresError
from tests.support.composed import composed
from tests.support.interrupting import Killed

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
TINY = (
    *("experiment=demo", "logger=csv", "trainer.threads=1", "trainer.checkpoint_minutes=0", "rounds=2"),
    *("data.sizes={train: 12, val: 4, test: 4}", "tokenizer.vocab_size=300", "teacher.max_quarantine=1"),
    *("model.d_model=16", "model.d_ff=16", "model.d_kv=8", "model.layers=1", "model.heads=2"),
    *("rationale.epochs=3", "rationale.eval_every_epochs=1", "sft.epochs=2", "lora.epochs=2"),
    *("rationale.global_batch_size=4", "rationale.micro_batch_size=2", "sft.global_batch_size=4"),
    *("sft.micro_batch_size=2", "lora.global_batch_size=4", "lora.micro_batch_size=2", "rl.ppo_epochs=2"),
    *("rl.k=2", "rl.eval_questions=2", "rl.max_new_tokens=12", "rl.global_batch_size=8"),
    *("rl.micro_batch_size=4", "rl.lora.r=2", "generate.max_new_tokens=12", "correct.on_quarantine=keep_own"),
)
STEPS = "stage.steps=[rationale,rollout,score,ppo,round/generate,correct,sft,final/generate,lora,evaluate]"


def artefacts(runs: Path, name: str, *typed: str) -> dict[str, dict[str, str]]:
    """The sha256 of every artefact of the run's steps, after running it."""
    config = composed(*TINY, STEPS, f"paths.runs={runs}", f"run={name}", *typed)
    run_stage(config)
    entries = read_manifest(run_folder(config))
    return {key: {file: out.sha256 for file, out in entry.outputs.items()} for key, entry in entries.items()}


def metrics(runs: Path, name: str) -> dict[str, dict[str, float]]:
    manifest = read_manifest(run_folder(composed(f"paths.runs={runs}", f"run={name}")))
    return {key: entry.metrics for key, entry in manifest.items()}


def curves(runs: Path, name: str) -> dict[str, str]:
    """The rows of each metrics.csv without their speed."""
    found = {}
    for path in sorted((runs / name / "logs").rglob("metrics.csv")):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        kept = [i for i, column in enumerate(rows[0]) if "tokens_per_second" not in column]
        found[path.relative_to(runs / name).as_posix()] = "\n".join(
            ",".join(row[i] for i in kept) for row in rows
        )
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    """The folder of runs, and the artefacts of an undisturbed one."""
    runs = tmp_path_factory.mktemp("runs")
    return runs, artefacts(runs, "undisturbed", "trainer.checkpoint_minutes=10")


def test_interrupted_run_has_the_same_artefacts(expected, monkeypatch, capsys) -> None:
    runs, undisturbed = expected
    draw, left, kills = np.random.default_rng(7), 0, 0
    start = FitCheckpoints.on_train_batch_start

    def raising(self, *arguments) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        start(self, *arguments)

    monkeypatch.setattr(FitCheckpoints, "on_train_batch_start", raising)
    while True:
        left = int(draw.integers(3, 22))
        try:
            found = artefacts(runs, "interrupted")
        except Killed:
            kills += 1
            continue
        break
    assert kills >= 6
    assert found == undisturbed
    assert metrics(runs, "interrupted") == metrics(runs, "undisturbed")
    assert curves(runs, "interrupted") == curves(runs, "undisturbed")
    assert "resumed at epoch 2, step" in capsys.readouterr().out
    assert not list((runs / "interrupted").rglob(".checkpoints-*"))


def test_stages_one_by_one_have_the_same_artefacts(expected) -> None:
    runs, undisturbed = expected
    for steps in ("[rationale]", "[rationale,rollout,score,ppo]"):
        artefacts(runs, "stages", f"stage.steps={steps}", "rounds=1", "trainer.checkpoint_minutes=10")
    assert artefacts(runs, "stages", "trainer.checkpoint_minutes=10") == undisturbed


def test_ruined_weights_are_not_published(expected) -> None:
    runs, _ = expected
    with pytest.raises(AresError, match=r"Lower rationale\.lr"):
        artefacts(runs, "ruined", "rationale.lr=1e30")
    assert not list((runs / "ruined").rglob("model.safetensors"))
    assert not read_manifest(runs / "ruined")


def test_artefacts_do_not_say_where_they_were_made(expected) -> None:
    runs, _ = expected
    own = str(runs).encode()
    suspect = [
        path for path in (runs / "undisturbed").rglob("*") if path.is_file() and own in path.read_bytes()
    ]
    assert {path.name for path in suspect} <= {"config.yaml", "manifest.json"}
    settings = json.loads((runs / "undisturbed/final/lora/adapter/adapter_config.json").read_text())
    assert settings["target_modules"] == sorted(settings["target_modules"])
    assert settings["base_model_name_or_path"] is None
    assert {path.name for path in (runs / "undisturbed/final/lora/adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
