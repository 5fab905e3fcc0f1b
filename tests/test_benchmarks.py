"""Benchmarks run, on models and texts of next to no size, and return the numbers that `--json` writes."""

import importlib
import json
import sys
from functools import partial

import pytest

from benchmarks import __main__ as entry
from benchmarks import baselines, metrics
from benchmarks.turns import alternate

pytestmark = pytest.mark.slow
TINY = {"width": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "d_kv": 8}
COUNTS = {"QUESTIONS": 4, "PAIRS": 4, "BATCH": 1, "PAPER_ROWS": 1, "REPEATS": 1, "ROLLOUTS": 4, "PROBLEMS": 4}


@pytest.mark.parametrize(
    "command",
    ["rollout", "writing", "update", "update --objective rloo", "update --objective grpo", "sft", "prefer"],
)
def test_models_are_compared(monkeypatch: pytest.MonkeyPatch, tmp_path, command: str) -> None:
    monkeypatch.setitem(baselines.T5, "small", TINY)
    found = numbers_of(monkeypatch, tmp_path, command)
    assert found["rows_per_s"] > 0
    assert found["peak_rss_mb"] > 0
    others = ("launched", "cohorts") if command == "writing" else ("paper_path", "transformers")
    assert all(found[f"ratio_{other}"] > 0 for other in others)


def test_work_on_texts_is_compared(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    texts = metrics._texts

    def few():
        examples, pairs, tokenizer = texts()
        return examples[:4], pairs[:4], tokenizer

    monkeypatch.setattr(metrics, "_texts", few)
    found = numbers_of(monkeypatch, tmp_path, "metrics")
    assert {f"{name}/ratio_usual" for name in ("bleu", "rouge_l", "sentences", "tokens")} < found.keys()
    assert found["tokens_of_21208_problems_s"] > 0


def test_a_table_ends_within_its_time() -> None:
    calls: list[str] = []
    sides = {name: partial(calls.append, name) for name in ("ours", "other")}
    measured = alternate(sides, limit=0.0)
    assert calls == ["ours", "other"]
    assert [len(side.seconds) for side in measured.values()] == [1, 1]
    assert len(alternate(sides, repeats=2)["ours"].seconds) == 2


def numbers_of(monkeypatch: pytest.MonkeyPatch, folder, command: str) -> dict[str, float]:
    """What a benchmark writes, run once with few rows."""
    name, *options = command.split()
    module = importlib.import_module(f"benchmarks.{name}")
    for constant, value in COUNTS.items():
        if hasattr(module, constant):
            monkeypatch.setattr(module, constant, value)
    once = partial(alternate, repeats=1)
    monkeypatch.setattr(
        module, "alternate", lambda sides, **how: once(sides, device=how.get("device", "cpu"))
    )
    path = folder / "numbers.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", name, *options, "--json", str(path)])
    entry.main()
    return json.loads(path.read_text())
