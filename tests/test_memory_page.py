"""The tables of docs/memory.md, and the limits in docs/performance.md, agree with their benchmarks."""

from pathlib import Path

import pytest

from benchmarks import limits
from benchmarks.memory import arithmetic, needs, t5_table, vlm_table
from benchmarks.memory_peaks import CASES, steps_of

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "memory.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", [t5_table, vlm_table, arithmetic])
def test_page_shows_the_estimates(table) -> None:
    assert table() in PAGE


def test_performance_page_shows_the_limits() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "performance.md").read_text(encoding="utf-8")
    assert limits.table() in page
    assert limits.teacher_table() in page


def test_page_shows_every_measured_case() -> None:
    for case in CASES:
        for step, _ in steps_of(case):
            assert f"| {case.name} | {step} | " in PAGE


@pytest.mark.parametrize(
    "preset", ["qwen2_5_vl_7b", "qwen3_vl_4b", "llava_1_5_7b", "internvl3_8b", "smolvlm"]
)
def test_batches_of_a_preset_use_a_device_of_80_gb(preset: str) -> None:
    found = needs(f"model={preset} strategy=single trainer.devices=1")
    assert 24 < max(memory.total for memory in found.values()) < 65
