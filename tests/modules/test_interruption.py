"""A signal during a fit: it is saved between two optimizer steps, and continues there."""

import os
import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl

from ares import interrupts
from ares.modules.interruption import StopOnSignal
from tests.support import supervised
from tests.support.interrupting import Batches
from tests.support.ppo import same, weights

pytestmark = pytest.mark.filterwarnings("ignore")
# Five optimizer steps per epoch: four of two micro-batches and a short one.
FIT = {"epochs": 3, "micro_batch_size": 2, "train": supervised.rows(18), "val": 4, "eval_every_epochs": 2}


class SignalAt(pl.Callback):
    """Sends this process a SIGTERM after a micro-batch of an epoch."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.place = epoch, batch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if (trainer.current_epoch, batch_idx) == self.place:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def handled(monkeypatch):
    """Signals are handled as the command line does, apart from the thread that ends the process."""
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    monkeypatch.setattr(interrupts._State, "installed", True)
    for name in ("received", "position"):
        monkeypatch.setattr(interrupts._State, name, getattr(interrupts._State, name))
    interrupts.set_handlers()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def fitted(folder: Path, *callbacks: pl.Callback) -> dict:
    network = supervised.t5(0.1)
    supervised.fit(network, folder, callbacks=[*callbacks, StopOnSignal("round-1/sft")], **FIT)
    return weights(network)


@pytest.mark.parametrize(
    ("place", "position", "first"),
    [
        ((0, 2), "epoch 1, step 2", (0, 4)),  # the optimizer step during which it came is completed
        ((1, 3), "epoch 2, step 7", (1, 4)),
        ((1, 8), "epoch 3, step 10", (2, 0)),  # and validated, at the end of an epoch
    ],
)
def test_fit_is_saved_and_continues(tmp_path: Path, place, position: str, first) -> None:
    expected = fitted(tmp_path / "complete")
    with pytest.raises(interrupts.Interrupted) as ended:
        fitted(tmp_path / "stopped", SignalAt(*place))
    assert ended.value.code == 143
    assert interrupts.position() == f"round-1/sft, {position}"
    assert not interrupts._State.deferred
    interrupts._State.received = None
    batches = Batches()
    assert same(fitted(tmp_path / "stopped", batches), expected)
    assert batches.seen[0] == first


def test_signal_during_the_last_step_keeps_the_result(tmp_path: Path) -> None:
    expected = fitted(tmp_path / "complete")
    with pytest.raises(interrupts.Interrupted):
        fitted(tmp_path / "stopped", SignalAt(2, 8))
    interrupts._State.received = None
    batches = Batches()
    assert same(fitted(tmp_path / "stopped", batches), expected)
    assert batches.seen == []
