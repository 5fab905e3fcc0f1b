"""The line that shows how far a step is."""

import io
import sys

import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from transformers import T5Config, T5ForConditionalGeneration

from ares import console
from ares.console import ProgressLine, tqdm


def test_loading_and_saving_weights_draws_no_bars(tmp_path, capfd) -> None:
    import ares.models.policy  # noqa: F401  # which silences transformers

    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 16}
    T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained(tmp_path)
    T5ForConditionalGeneration.from_pretrained(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert not are_progress_bars_disabled()  # of downloads


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, which tests set."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def last(text: str) -> str:
    """What a terminal shows at the end."""
    return text.split("\x1b[2K")[-1].rstrip("\r")


def test_line_of_a_fit(monkeypatch, clock) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    line = ProgressLine()
    line.begin("step 3 of 10 · ppo", "round-1/ppo")
    assert last(terminal.getvalue()) == "step 3 of 10 · ppo"
    line.show(0, 400, detail="epoch 1/4")
    clock[0] += 47
    line.show(148, 400, detail="epoch 2/4", usd=0.123)
    assert last(terminal.getvalue()) == "step 3 of 10 · ppo · epoch 2/4 · 37 % · 1:20 left · $0.12"
    assert "\n" not in terminal.getvalue()
    line.end()
    assert last(terminal.getvalue()) == ""


def test_time_left_is_estimated_from_what_this_process_did(monkeypatch, clock) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    line = ProgressLine()
    line.begin("step 1 of 1 · sft", "round-1/sft")
    line.show(50, 100)  # a resumed fit
    clock[0] += 10
    line.show(60, 100)
    assert last(terminal.getvalue()).endswith("60 % · 0:40 left")


def test_lines_are_plain_and_rare_without_a_terminal(capsys, clock) -> None:
    line = ProgressLine()
    line.begin("step 2 of 3 · score", "round-1/score")
    for done in range(130):
        clock[0] += 1
        line.show(done, 130, part="round-1/score")
    line.end()
    assert capsys.readouterr().err.splitlines() == [
        "step 2 of 3 · score · 45 % · 1:11 left",
        "step 2 of 3 · score · 92 % · 0:11 left",
    ]


def test_parts_of_a_step_are_named_and_money_is_shown(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(console, "_REDRAW_SECONDS", 0.0)
    monkeypatch.setattr(console, "progress", line := ProgressLine())
    line.begin("step 5 of 9 · generate", "final/generate")
    assert list(tqdm(range(4), desc="final/generate val", dynamic_ncols=True)) == [0, 1, 2, 3]
    assert last(terminal.getvalue()).startswith("step 5 of 9 · generate · val · 100 %")
    with tqdm(total=2, desc="final/generate test") as bar:
        bar.set_postfix(usd="1.50", requests=3, refresh=False)
        bar.update(2)
    assert last(terminal.getvalue()).endswith("$1.50")
    assert "\n" not in terminal.getvalue()
