"""The table of docs/memory.md agrees with its benchmark and with the models."""

from pathlib import Path

import pytest
import torch

from benchmarks.ppo_memory import gibibytes, options, table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "memory.md"


def test_table_equals_benchmark_output() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")


def test_trained_weight_takes_16_bytes_and_frozen_one_4() -> None:
    layer = torch.nn.Linear(1024, 1024, bias=False)
    assert gibibytes([layer, layer]) == pytest.approx(16 / 1024)
    assert gibibytes([layer.requires_grad_(False)], devices=2) == pytest.approx(2 / 1024)


def test_base_policy_has_the_original_parameter_count() -> None:
    # golden/README.md: 251,907,840 parameters.
    assert options("base")["rl.objective=rloo or grpo"] == pytest.approx(251_907_840 * 16 / 2**30)
