"""The metrics of `assess` on rationales that `generate` wrote."""

from pathlib import Path

import pytest

from ares.config.schema import Config
from ares.data.sample import generate, write_sample
from ares.evaluation.rationales import gold_rationale
from ares.steps.assess import assess
from ares.steps.common.contract import StepContext
from ares.storage.files import read_jsonl
from ares.storage.tables import write_rationales
from ares.types import Rationale
from tests.support.composed import composed
from tests.support.sample import statements

SIZES = {"train": 0, "val": 6, "test": 0}


def assessed(tmp_path: Path, config: Config, texts: dict[str, str]) -> tuple[list[dict], dict[str, float]]:
    rows = [Rationale(pid, text, (1,) * 9, pid.endswith("1")) for pid, text in texts.items()]
    write_rationales(tmp_path / "val.parquet", rows)
    inputs = {"data": tmp_path / "data", "rationales-val": tmp_path / "val.parquet"}
    result = assess(config, StepContext(tmp_path, "final/assess", tmp_path, 0, config, "0" * 64, inputs))
    return read_jsonl(result.files["assessment"]), dict(result.metrics)


@pytest.fixture
def items(tmp_path: Path) -> list:
    write_sample(tmp_path / "data", sizes=SIZES, seed=3)
    return generate(SIZES, 3)


def test_sample_rationales_are_measured_by_sentence_labels(tmp_path: Path, items: list) -> None:
    said = {item.problem.pid: [sentence for sentence, _ in statements(item)] for item in items}
    texts = {pid: " ".join(["Solution:", *own, own[0]]) for pid, own in said.items()}
    texts[items[3].problem.pid] = ""
    rows, metrics = assessed(tmp_path, composed("experiment=demo", "rl.eval_questions=5"), texts)
    assert [row["pid"] for row in rows] == list(texts)[:5]
    assert rows[0]["sentences"][0] == said[rows[0]["pid"]][0]
    assert rows[0]["labels"][-1] == "repeated"
    assert all(row["rouge_l"] is None for row in rows)
    shares = [metrics[label] for label in ("supporting", "irrelevant", "false", "invented", "repeated")]
    assert sum(shares) == pytest.approx(4 / 5)  # an empty rationale has none
    assert metrics["supporting"] + metrics["irrelevant"] < 0.5 * sum(shares)
    assert (metrics["tokens"], metrics["truncated"]) == (9, 1 / 5)
    assert "rouge_l" not in metrics


def test_other_rationales_are_measured_by_rouge_and_similarity(tmp_path: Path, items: list) -> None:
    config = composed("experiment=demo", "data=scienceqa", "rl.eval_questions=400")
    texts = {item.problem.pid: gold_rationale(item.problem) for item in items}
    texts[items[0].problem.pid] = "Solution: It is. It is."
    rows, metrics = assessed(tmp_path, config, texts)
    assert [row["rouge_l"] > 0.99 for row in rows] == [False, *[True] * 5]
    assert metrics["rouge_l"] == pytest.approx(sum(row["rouge_l"] for row in rows) / 6)
    assert metrics["repetition"] == pytest.approx(0.5 / 6)
    assert all(row["labels"] is None for row in rows)
    assert "supporting" not in metrics
