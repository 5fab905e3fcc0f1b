"""Many rounds in one process keep memory and file descriptors flat; `make soak` runs 100."""

import gc
import os
from pathlib import Path

import pytest

from ares.pipeline import runner
from tests.support.composed import composed

pytestmark = pytest.mark.reliability

ROUNDS = int(os.environ.get("ARES_SOAK_ROUNDS", 8))
WARM = 3  # rounds in which imports, caches and the allocator settle
PAGE = os.sysconf("SC_PAGE_SIZE")
TINY = (
    *("experiment=demo", "data.sizes={train: 16, val: 4, test: 4}", f"rounds={ROUNDS}"),
    "stage.steps=[rationale,rollout,score,ppo,round/generate,correct,sft]",
    *("model.d_model=32", "model.d_ff=64", "model.layers=1", "rationale.epochs=1", "sft.epochs=1"),
    *("rl.questions=16", "rl.questions_per_part=8", "rl.k=2", "rl.max_new_tokens=8", "rl.ppo_epochs=1"),
    *("rl.global_batch_size=32", "rl.micro_batch_size=16", "generate.max_new_tokens=8"),
)


def used() -> tuple[float, int]:
    """This process's resident memory (MB) and its open file descriptors."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE / 1e6, len(os.listdir("/proc/self/fd"))


def test_rounds_keep_memory_and_file_descriptors_flat(tmp_path: Path, monkeypatch) -> None:
    found: list[tuple[float, int]] = []
    run_step = runner._run_step

    def measured(run, step, *rest):
        ran = run_step(run, step, *rest)
        if step.key.endswith("/sft"):
            found.append(used())
        return ran

    monkeypatch.setattr(runner, "_run_step", measured)
    runner.run_stage(composed(*TINY, f"paths.runs={tmp_path}"))
    assert len(found) == ROUNDS
    megabytes, descriptors = zip(*found[WARM:], strict=True)
    growth = (megabytes[-1] - megabytes[0]) / (len(megabytes) - 1)
    print(
        f"{ROUNDS} rounds: {megabytes[0]:.0f} MB after round {WARM + 1}, {megabytes[-1]:.0f} MB at the end,"
    )
    print(f"{growth:.2f} MB per round; {min(descriptors)} to {max(descriptors)} file descriptors")
    assert max(descriptors) - min(descriptors) <= 2
    # A policy, a value model and an optimizer are 0.3 MB here, each round's rollouts less.
    assert growth < (0.25 if ROUNDS >= 50 else 3.0)
