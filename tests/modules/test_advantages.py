"""The recorded advantages are those that the first epoch of the policy is trained with."""

from itertools import pairwise
from pathlib import Path

import pytest
import pytorch_lightning as pl

from ares.modules.advantages import RecordAdvantages
from ares.storage.tables import read_advantages
from tests.support.ppo import RL, make_buffer, tiny_policy, train


class Tokens(pl.Callback):
    """The advantages of all tokens at the first step of every epoch."""

    def __init__(self) -> None:
        self.epochs: list[list[float]] = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 0:
            self.epochs.append(module.advantages.tolist())


def test_advantages_of_the_first_epoch_are_recorded_by_sentence(tmp_path: Path) -> None:
    policy = tiny_policy()
    buffer = make_buffer(policy, questions=4)
    tokens, path = Tokens(), tmp_path / "advantages.parquet"
    train(policy, buffer, tmp_path / "fit", RL, callbacks=[RecordAdvantages(path), tokens])
    assert len(tokens.epochs) == RL.value_warmup_epochs + RL.ppo_epochs
    found = read_advantages(path)
    assert [row.row_id for row in found] == [buffer.rollouts.row_ids[kept] for kept in buffer.kept]
    every = tokens.epochs[RL.value_warmup_epochs]
    for number, row in enumerate(found):
        own = every[buffer.tokens(number)]
        starts = [0, *(end + 1 for end in buffer.ends[number])]
        means = [sum(own[a:b]) / (b - a) for a, b in pairwise(starts)]
        assert row.advantages == pytest.approx(means, abs=1e-6)
    assert any(abs(value) > 0.1 for row in found for value in row.advantages)

    # A resumed fit keeps them.
    path.write_bytes(b"earlier")
    policy = tiny_policy()
    train(
        policy, make_buffer(policy, questions=4), tmp_path / "again", RL, callbacks=[RecordAdvantages(path)]
    )
    assert path.read_bytes() == b"earlier"
