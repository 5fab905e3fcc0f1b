"""Fine-tuning on conversations, then preference optimization on the data's pairs: a vision-language model and a T5."""

import json
from pathlib import Path

import pytest
from PIL import Image

from ares.pipeline.manifest import read_manifest
from ares.storage.pairs import read_pairs
from ares.types import AresError
from tests.support.composed import composed
from tests.support.small_run import run

pytestmark = pytest.mark.slow

COLORS = ("red", "green", "blue", "white")
SMALL = (
    *("features=none", "model.layers=1", "trainer.accelerator=cpu", "trainer.threads=1"),
    *("strategy=single", "rationale.epochs=2", "rationale.eval_questions=2", "data.val=0.2"),
    *("prefer.micro_batch_size=2", "prefer.global_batch_size=4", "prefer.epochs=2", "prefer.lr=1e-3"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up conversations of two turns, and pairs, about pictures of one color."""
    folder = tmp_path_factory.mktemp("made-up")
    conversations, pairs = [], []
    for number in range(16):
        color, other = COLORS[number % 4], COLORS[(number + 1) % 4]
        Image.new("RGB", (64, 64), color).save(folder / f"{number}.png")
        texts = [
            "<image>\nWhat color is it?",
            f"It is {color}.",
            "Sure?",
            f"Yes. The picture is {color} all over.",
        ]
        turns = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]
        row = {"id": f"c{number}", "image": f"{number}.png"}
        conversations.append({**row, "conversations": turns})
        sides = {"chosen": f"It is {color}. All of it.", "rejected": f"It is {other}. All of it."}
        pairs.append({**row, "prompt": "What color is it?", **sides})
    (folder / "sft.json").write_text(json.dumps(conversations))
    (folder / "pairs.json").write_text(json.dumps(pairs))
    return folder


def started(files: Path, runs: Path, model: str, *settings: str) -> None:
    """Runs a stage with a model of the smallest sizes."""
    own = (f"model={model}", "model.d_model=32", "model.d_ff=64", *SMALL, f"paths.runs={runs}")
    run(composed(*own, *settings))


@pytest.fixture(scope="module", params=["tiny_vlm", "tiny"])
def fine_tuned(request: pytest.FixtureRequest, files: Path, tmp_path_factory: pytest.TempPathFactory):
    """The folder of runs, with one that fine-tuned a model on conversations, and the model."""
    runs = tmp_path_factory.mktemp("runs")
    data = ("data=conversations", f"data.root={files}/sft.json")
    started(files, runs, request.param, "stage=rationale", *data, "run=sft")
    return runs, request.param


def test_conversations_then_pairs(files: Path, fine_tuned: tuple[Path, str]) -> None:
    runs, model = fine_tuned
    data = ("data=preferences", f"data.root={files}/pairs.json", "pairs.source=brought")
    for loss in ("dpo", "kto", "ddpo") if model == "tiny_vlm" else ("dpo",):
        settings = ("stage=preferences", *data, "policy=sft", f"prefer.loss={loss}", f"run={loss}")
        started(files, runs, model, *settings)
        steps = read_manifest(runs / loss)
        assert list(steps) == ["round-1/pairs", "round-1/prefer"]
        assert steps["round-1/prefer"].metrics["train/kl"] > 0
        pairs = read_pairs(runs / loss / "round-1/pairs/pairs.parquet")
        assert len(pairs) == 16
        assert [len(side.spans) for side in (pairs[0].chosen, pairs[0].rejected)] == [2, 2]


def test_data_without_pairs_are_refused(files: Path, fine_tuned: tuple[Path, str]) -> None:
    runs, model = fine_tuned
    data = ("data=conversations", f"data.root={files}/sft.json", "pairs.source=brought")
    with pytest.raises(AresError, match="data=conversations brings no pairs; use data=preferences"):
        started(files, runs, model, "stage=preferences", *data, "policy=sft", "run=none")
