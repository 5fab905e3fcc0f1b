"""Runs that are killed or stopped in the middle of a step, again and again, end as one that nobody disturbs.

`make kill-test` does it at 30 random points; `ARES_KILLS` and `ARES_KILL_SEED` repeat the points that it printed.
"""

import os
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.killing import CONCURRENCY, SmallRun
from tests.support.teacher import Loopback

pytestmark = pytest.mark.reliability

KILLS = int(os.environ.get("ARES_KILLS", 6))
SEED = int(os.environ.get("ARES_KILL_SEED", 0))
LATENCY = 0.05  # seconds of the Teacher's reply
# In the order of a run: those that take long enough to be hit.
STEPS = (
    *("rationale", "round-1/rollouts", "round-1/score", "round-1/ppo", "round-1/generate", "round-1/correct"),
    *("round-1/sft", "final/generate", "final/lora", "final/evaluate"),
)
ASKING = ("round-1/score", "round-1/correct", "final/judge")
IMPORTS = 2.0  # seconds that the first step of a process takes before it works


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Loopback]]:
    """Three servers, so that each run's requests can be counted."""
    found = [Loopback(latency=LATENCY) for _ in range(3)]
    yield found
    for server in found:
        server.close()


@pytest.fixture(scope="module")
def undisturbed(servers, tmp_path_factory) -> SmallRun:
    """The run that nobody disturbs."""
    run = SmallRun(tmp_path_factory.mktemp("undisturbed"), servers[0])
    run.finish()
    return run


def assert_equal(run: SmallRun, undisturbed: SmallRun) -> None:
    """Every artefact has the same bytes, and the manifest the same metrics and costs."""
    assert run.artefacts == undisturbed.artefacts
    found, expected = run.entries, undisturbed.entries
    assert {key: entry.metrics for key, entry in found.items()} == {
        key: entry.metrics for key, entry in expected.items()
    }
    for key, entry in expected.items():
        assert (found[key].requests, found[key].usd) == (entry.requests, pytest.approx(entry.usd)), key
    assert not [path for path in run.root.rglob(".*.tmp") if path.name != ".lock"]


def drawn(generator: random.Random, undisturbed: SmallRun, steps: tuple[str, ...]) -> list[tuple[str, float]]:
    """A point in each step: its key, and the seconds since its start."""
    return [
        (step, round(generator.uniform(0.05, 1.0) * (undisturbed.seconds[step] + IMPORTS), 2))
        for step in steps
    ]


def print_lost(lost: dict[str, list[float]], undisturbed: SmallRun) -> None:
    """Prints the kills in each step, and the seconds of work that was done again, with imports in a process's first step."""
    print(f"{'step':18}{'kills':>6}{'takes':>8}{'repeated: mean':>17}{'most':>7}")
    for step, seconds in lost.items():
        mean, most = (sum(seconds) / len(seconds), max(seconds)) if seconds else (0.0, 0.0)
        takes = undisturbed.seconds.get(step, 0.0)
        print(f"{step:18}{len(seconds):6}{takes:6.1f} s{mean:15.1f} s{most:5.1f} s")


def test_killed_run_ends_as_an_undisturbed_one(servers, undisturbed, tmp_path: Path) -> None:
    generator = random.Random(SEED)
    chosen = sorted(generator.sample(range(len(STEPS)), KILLS % len(STEPS)))
    rounds = [tuple(STEPS)] * (KILLS // len(STEPS)) + [tuple(STEPS[number] for number in chosen)]
    lost: dict[str, list[float]] = {step: [] for step in STEPS}
    for number, steps in enumerate(filter(None, rounds)):
        run = SmallRun(tmp_path / str(number), servers[1])
        before = Counter(run.server.hashes)
        hit = Counter[str]()
        for step, delay in drawn(generator, undisturbed, steps):
            if step in run.entries:  # the kill before came after its end
                continue
            code, _ = run.interrupt(step, delay, signal.SIGKILL)
            assert code in (-signal.SIGKILL, 0), run.output  # 0: it had ended
            place = run.last_started if code else "after the end"
            hit[place] += 1
            if code:
                lost.setdefault(place, []).append(run.unsaved)
            print(f"seed {SEED}: killed {delay:.2f} s after the start of {step}: in {place}")
        run.finish()
        assert_equal(run, undisturbed)
        asked = Counter(run.server.hashes) - before
        again = sum(asked.values()) - len(asked)
        assert hit.total() - hit["after the end"] >= len(steps) - 2  # most points are inside the run
        print(f"{again} requests sent again; killed in {dict(hit)}")
        assert again <= CONCURRENCY * sum(hit[step] for step in ASKING)
    print_lost(lost, undisturbed)


SIGNALS = (
    ("rationale", signal.SIGTERM),
    ("round-1/rollouts", signal.SIGINT),
    ("round-1/score", signal.SIGTERM),
    ("round-1/ppo", signal.SIGUSR1),
    ("round-1/correct", signal.SIGINT),
    ("final/generate", signal.SIGTERM),
    ("final/lora", signal.SIGTERM),
)


def assert_stopped(run: SmallRun, step: str, delay: float, number: signal.Signals) -> None:
    """A signal ends the run within 10 seconds, with its exit code and one line."""
    code, seconds = run.interrupt(step, delay, number)
    assert code == (130 if number == signal.SIGINT else 143), run.output
    assert seconds < 10
    line = rf"stopped by {number.name} in ([\w/-]+)(, epoch \d+, step \d+)?; continue with: python train\.py "
    [found] = re.findall(line, run.output)
    assert found[0] in (*STEPS, "rationale/assess", "round-1/assess", "final/assess")
    assert "Traceback" not in run.output
    assert "error:" not in run.output


def test_stopped_run_ends_as_an_undisturbed_one(servers, undisturbed, tmp_path: Path) -> None:
    run = SmallRun(tmp_path, servers[2])
    for step, number in SIGNALS:
        assert_stopped(run, step, 0.5 * undisturbed.seconds[step], number)
    run.finish()
    assert_equal(run, undisturbed)
    # Open requests are completed before the process ends.
    assert max(Counter(run.server.hashes).values()) == 1


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_that_are_stopped_and_killed_end_as_undisturbed_ones(
    servers, tmp_path: Path, strategy: str
) -> None:
    steps = (f"strategy={strategy}", "trainer.devices=2", "stage.steps=[rationale,final/generate]")
    expected, run = (SmallRun(tmp_path / name, servers[0], steps) for name in ("undisturbed", "killed"))
    expected.finish()
    within = 0.8 * expected.seconds["rationale"]  # most of it are imports
    assert_stopped(run, "rationale", within, signal.SIGTERM)
    code, _ = run.interrupt("rationale", within, signal.SIGKILL)
    assert code == -signal.SIGKILL
    run.finish()
    assert_equal(run, expected)
