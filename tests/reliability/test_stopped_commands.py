"""A signal during `stage=prepare` and during a sweep: the exit code, the line, and the same command continues."""

import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ares import __main__, interrupts
from ares.modules.checkpoints import FitCheckpoints
from ares.pipeline.manifest import read_manifest
from ares.storage.files import read_json
from ares.vision.encoders import PatchEncoder
from tests.support.small_run import SMALL

pytestmark = [pytest.mark.reliability, pytest.mark.filterwarnings("ignore")]
SWEEP = (
    "stage=rationale",
    "rationale.lr=1e-3,1e-2",
    "rationale.epochs=3",
)


@pytest.fixture(autouse=True)
def handled(monkeypatch) -> Iterator[None]:
    """Signals are handled as in a process of the command line, apart from the thread that ends one in time."""
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}

    def install(command: str | None) -> None:
        for name, value in {
            "installed": True,
            "command": command,
            "received": None,
            "reported": False,
        }.items():
            monkeypatch.setattr(interrupts._State, name, value)
        monkeypatch.setattr(interrupts._State, "position", "")
        interrupts.set_handlers()

    monkeypatch.setattr(interrupts, "install", install)
    yield
    interrupts.defer(False)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def command(monkeypatch) -> Callable[..., int]:
    """Runs a command line in this process; returns its exit code."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *SMALL, *arguments])
        try:
            __main__.main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run


def send_at(monkeypatch, kind: type, method: str, call: int, number: signal.Signals) -> None:
    """Sends a signal to this process at one of the calls of a method, counted from 1."""
    original, calls = getattr(kind, method), itertools.count(1)

    def counted(self, *arguments):
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(kind, method, counted)


def assert_stopped(capfd, name: str, place: str, *typed: str) -> None:
    captured = capfd.readouterr()
    assert f"stopped by {name} in {place}" in captured.err
    line = next(line for line in captured.err.splitlines() if line.startswith("stopped by"))
    command = line.partition("continue with: python train.py ")[2]
    assert all(text.split("=")[0] in command for text in typed)
    assert captured.err.count("stopped by") == 1
    assert "Traceback" not in captured.err + captured.out


def policies(runs: Path) -> dict[str, str]:
    """The hash of the policy of each finished job of the sweep, by the job's name."""
    manifests = {job.name: read_manifest(job) for job in (runs / "demo/sweep").iterdir() if job.is_dir()}
    return {name: steps["rationale"].outputs["policy"].sha256 for name, steps in manifests.items() if steps}


def test_stopped_prepare_continues(tmp_path: Path, monkeypatch, command, capfd) -> None:
    whole, stopped = (("stage=prepare", "features.batch_size=4", f"paths.runs={tmp_path / n}") for n in "ab")
    assert command(*whole) == 0
    with monkeypatch.context() as patch:
        send_at(patch, PatchEncoder, "encode", 2, signal.SIGTERM)
        assert command(*stopped) == 143
    assert_stopped(capfd, "SIGTERM", "prepare", *stopped)
    [folder] = (tmp_path / "b/shared").glob("features-*")
    assert read_json(folder / "progress.json")["done"] == 4
    assert not (folder / "prepared.json").exists()
    assert command(*stopped) == 0
    [expected], [found] = ((tmp_path / n / "shared").glob("features-*") for n in "ab")
    assert (found / "features.npy").read_bytes() == (expected / "features.npy").read_bytes()


def test_stopped_sweep_continues(tmp_path: Path, monkeypatch, command, capfd) -> None:
    assert command(*SWEEP, f"paths.runs={tmp_path / 'a'}", "-m") == 0
    capfd.readouterr()
    stopped = (*SWEEP, f"paths.runs={tmp_path / 'b'}", "-m")
    with monkeypatch.context() as patch:
        send_at(patch, FitCheckpoints, "on_train_batch_start", 5, signal.SIGINT)
        assert command(*stopped) == 130
    assert_stopped(capfd, "SIGINT", "rationale, epoch", *stopped)
    assert len(policies(tmp_path / "b")) == 1  # the second job was stopped in its fit
    assert command(*stopped) == 0
    assert "resumed at epoch 3, step 2" in capfd.readouterr().out
    assert len(policies(tmp_path / "b")) == 2
    assert policies(tmp_path / "b") == policies(tmp_path / "a")
