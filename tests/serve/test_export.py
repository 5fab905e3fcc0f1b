"""stage=export: a folder that answers as the run did, anywhere and without the run."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

import ares
from ares.config.schema import Config
from ares.serve.playground import opened
from ares.steps.common.answering import Answering, answering_of, export_answering
from ares.steps.export import export
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import read_json, write_json
from ares.types import AresError
from tests.support.asked_runs import T5, adapted, trained
from tests.support.composed import composed
from tests.support.hub_server import TOKEN, HubServer

REPOSITORY = Path(__file__).resolve().parents[2]


def questions_of(config: Config) -> list[dict]:
    """The test questions; their images are copied by the caller."""
    problems, splits = read_problems(config.data, prepared(config, make=False)["data"])
    return [
        {"question": p.question, "choices": list(p.choices), "hint": p.hint, "caption": p.caption}
        | ({"image": str(p.image)} if p.image else {})
        for p in map(problems.__getitem__, splits["test"])
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "adapter"])
def test_exported_model_answers_in_a_fresh_process_without_the_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    config = trained(runs, *T5) if kind == "t5" else adapted(runs)
    questions = questions_of(config)
    expected = [vars(answer) for answer in ares.load(runs / config.run, device="cpu").ask_many(questions)]
    with HubServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        lines = export(replace(config, export=replace(config.export, push="me/demo", license="mit")))
    folder = runs / config.run / "export/model"
    own, exported = opened([config.run, str(folder)], str(runs))
    assert own.scorer.teacher is not None
    assert exported.scorer is own.scorer
    assert lines[0] == f"model: {folder}"
    assert lines[-1] == f"pushed: {hub.url}/me/demo"
    pushed = {path for path in hub.files["me/demo"] if path != ".gitattributes"}
    assert pushed == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    elsewhere.mkdir()
    for number, question in enumerate(questions):
        if "image" in question:
            question["image"] = str(shutil.copy(question["image"], elsewhere / f"{number}.png"))
    shutil.move(runs / config.run / "export", elsewhere / "moved")
    shutil.rmtree(runs)
    for file in (elsewhere / "moved/model").rglob("*.json"):
        assert str(tmp_path) not in file.read_text(), file
    done = subprocess.run(
        [sys.executable, "-m", "ares", "ask", "run=moved", "device=cpu"],
        input="\n".join(map(json.dumps, questions)),
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(expected)
    for row, answer in zip(found, expected, strict=True):
        assert (row["rationale"], row["letter"]) == (answer["rationale"], answer["letter"])
        assert row["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-5)
    card = (elsewhere / "moved/model/README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"
    assert "| accuracy, 6 test questions |" in card
    assert "python train.py stage=ares data=sample" in card
    assert "train 16, val 2, test 6" in card


@pytest.fixture
def model(tmp_path: Path) -> Answering:
    """A model whose files are only names, with weights of its encoder in a local file."""
    for name in ("policy", "adapter"):
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "weights").write_text(name)
    write_json(
        tmp_path / "run/adapter/adapter_config.json", {"base_model_name_or_path": str(tmp_path), "r": 1}
    )
    (tmp_path / "vit.safetensors").write_text("encoder")
    config = composed(
        "features=vit", f"features.checkpoint={tmp_path}/vit.safetensors", "text.newline=escape"
    )
    return Answering(tmp_path, config, tmp_path / "run/policy", tmp_path / "run/adapter", {})


def test_local_weights_of_the_encoder_move_with_the_model(model: Answering, tmp_path: Path) -> None:
    export_answering(model, tmp_path / "model", "# Card\n")
    (tmp_path / "vit.safetensors").unlink()
    shutil.rmtree(tmp_path / "run")
    shutil.move(tmp_path / "model", tmp_path / "moved")
    found = answering_of(tmp_path / "moved")
    assert Path(found.config.features.arguments["checkpoint"]).read_text() == "encoder"
    assert (found.policy / "weights").read_text() == "policy"
    assert found.config.text == model.config.text
    assert found.config.features.arguments["model"] == model.config.features.arguments["model"]
    assert read_json(found.adapter / "adapter_config.json") == {"base_model_name_or_path": None, "r": 1}
    settings = (tmp_path / "moved/answering.json").read_text()
    assert str(tmp_path) not in settings


@pytest.mark.parametrize("change", [{"format": 99}, {"settings": {"text": {"newlines": 3}}}, {"settings": 3}])
def test_folders_of_another_version_are_refused(model: Answering, tmp_path: Path, change: dict) -> None:
    export_answering(model, tmp_path / "model", "# Card\n")
    path = tmp_path / "model/answering.json"
    write_json(path, {**read_json(path), **change})
    with pytest.raises(AresError, match="was made by another version of ares"):
        answering_of(tmp_path / "model")


def test_model_is_exported_again_over_an_earlier_one(model: Answering, tmp_path: Path) -> None:
    for text in ("old", "new"):
        export_answering(model, tmp_path / "model", text)
        (tmp_path / "model" / text).touch()
    assert (tmp_path / "model/README.md").read_text() == "new"
    assert not (tmp_path / "model/old").exists()


def test_uploads_that_cannot_work_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    config = composed("experiment=demo", f"paths.runs={tmp_path}", "stage=export", "export.push=me/demo")
    with pytest.raises(AresError, match="HF_HUB_OFFLINE is set"):
        export(config)
    assert list(tmp_path.iterdir()) == []
