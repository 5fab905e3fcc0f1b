"""Fine-tuning on conversations, then preference optimization on the data's pairs: VL-RLHF's recipes on a tiny LLaVA, and a T5."""

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
    *("logger=csv", "features=none", "model.layers=1", "trainer.accelerator=cpu", "trainer.threads=1"),
    *("strategy=single", "rationale.epochs=2", "rationale.eval_questions=2", "data.val=0.2"),
    *("rationale.global_batch_size=4", "rationale.micro_batch_size=4"),
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
        sides = {"chosen": f"It is {color}. Yes.", "rejected": f"It is {other}. Yes."}
        pairs.append({**row, "prompt": "What color is it?", **sides})
    (folder / "sft.json").write_text(json.dumps(conversations))
    (folder / "pairs.json").write_text(json.dumps(pairs))
    return folder


def started(files: Path, runs: Path, model: str, name: str, *settings: str) -> None:
    """Runs VL-RLHF's recipe `name`, or the same for a T5, with a model of the smallest sizes."""
    stage, data = ("rationale", "conversations") if name == "sft" else ("preferences", "preferences")
    file = "sft.json" if name == "sft" else "pairs.json"
    recipe: tuple[str, ...] = (f"experiment=vlrlhf_llava_{name}", "trainer.precision=32-true")
    if model == "tiny":
        recipe = (f"stage={stage}", f"data={data}", "pairs.source=brought", f"run=vlrlhf-llava-{name}")
    sizes = (f"model={model}", "model.d_model=32", "model.d_ff=64")
    run(composed(*recipe, *sizes, f"data.root={files}/{file}", *SMALL, f"paths.runs={runs}", *settings))


@pytest.fixture(scope="module", params=["tiny_vlm", "tiny"])
def fine_tuned(request: pytest.FixtureRequest, files: Path, tmp_path_factory: pytest.TempPathFactory):
    """The folder of runs, with one that fine-tuned a model on conversations, and the model."""
    runs = tmp_path_factory.mktemp("runs")
    started(files, runs, request.param, "sft")
    return runs, request.param


def test_conversations_then_pairs(files: Path, fine_tuned: tuple[Path, str]) -> None:
    runs, model = fine_tuned
    for name, loss in (
        (("dpo", "dpo"), ("kto", "kto_pair"), ("ddpo", "ddpo")) if model == "tiny_vlm" else (("dpo", "dpo"),)
    ):
        started(files, runs, model, name, "policy=vlrlhf-llava-sft")
        folder = runs / f"vlrlhf-llava-{loss}"
        steps = read_manifest(folder)
        assert list(steps) == ["round-1/pairs", "round-1/prefer"]
        assert steps["round-1/prefer"].settings["prefer"]["loss"] == loss
        assert steps["round-1/prefer"].metrics["train/kl"] > 0
        pairs = read_pairs(folder / "round-1/pairs/pairs.parquet")
        assert len(pairs) == 16
        assert [len(side.spans) for side in (pairs[0].chosen, pairs[0].rejected)] == [2, 2]


def test_data_without_pairs_are_refused(files: Path, fine_tuned: tuple[Path, str]) -> None:
    runs, model = fine_tuned
    other = ("data=conversations", f"data.root={files}/sft.json", "policy=vlrlhf-llava-sft", "run=none")
    with pytest.raises(AresError, match="data=conversations brings no pairs; use data=preferences"):
        started(files, runs, model, "dpo", *other)
