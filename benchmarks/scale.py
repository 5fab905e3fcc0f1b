"""Whether the time of a full run grows in proportion to its questions and its rounds, with tiny models.

    python -m benchmarks scale --json F

Each size is a run of all steps in this process, after one that warms up. Policies hardly learn (lr 1e-9), so that they
write equally long texts at every size. The baseline is the straight line through the first and the last size: the table
shows by how much the others are off it.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Mapping

from ares.pipeline.runner import run_stage
from tests.support.composed import composed

QUESTIONS = (200, 400, 800, 1600)
ROUNDS = (1, 2, 4)
SETTINGS = (
    *("experiment=demo", "features=none", "trainer.threads=1", "teacher.noise=0"),
    *(f"{step}.lr=1e-9" for step in ("rationale", "rl", "sft", "lora")),
    *(f"{step}.epochs=1" for step in ("rationale", "sft", "lora")),
    *("rl.questions=null", "rl.ppo_epochs=1", "rl.value_warmup_epochs=0", "rl.k=2", "rl.eval_questions=16"),
    *("rl.max_new_tokens=24", "generate.max_new_tokens=24", "lora.max_output_tokens=8"),
    "stage.steps=[rationale,rollout,score,ppo,round/generate,correct,sft,final/generate,lora,evaluate]",
)


def main(args: argparse.Namespace) -> dict[str, float]:
    """Prints a table for questions and one for rounds; returns the largest deviations in percent."""
    seconds(questions=50, rounds=1)
    by_questions = {count: seconds(questions=count, rounds=1) for count in QUESTIONS}
    by_rounds = {count: seconds(questions=QUESTIONS[0], rounds=count) for count in ROUNDS}
    found = {}
    for name, measured in (("questions", by_questions), ("rounds", by_rounds)):
        print(f"{name:>10}{'CPU s':>10}{'line':>10}{'off':>8}")
        off = deviations(measured)
        for count, spent in measured.items():
            print(f"{count:10}{spent:10.1f}{spent / (1 + off[count]):10.1f}{100 * off[count]:+7.1f}%")
        found[f"{name}_off_percent"] = 100 * max(map(abs, off.values()))
    return found


def deviations(measured: Mapping[int, float]) -> dict[int, float]:
    """How far each value is above the straight line through the first and the last, as a fraction of it."""
    (low, at_low), *_, (high, at_high) = measured.items()
    slope = (at_high - at_low) / (high - low)
    return {count: spent / (at_low + slope * (count - low)) - 1 for count, spent in measured.items()}


def seconds(*, questions: int, rounds: int) -> float:
    """Processor seconds of a run of all steps."""
    sizes = f"data.sizes={{train: {questions}, val: 16, test: 16}}"
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = composed(*SETTINGS, sizes, f"rounds={rounds}", f"paths.runs={folder}")
        start = time.process_time()
        run_stage(config)
        return time.process_time() - start
