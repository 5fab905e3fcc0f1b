"""Batches of supervised examples: each row once, fixed optimiser steps, like lengths together."""

import numpy as np
from ares.datamodules.base import Encoded, Seq2SeqData, bucketed_batches
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=120),
    micro=st.integers(1, 5),
    accumulate=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_every_row_once_and_only_the_last_step_is_partial(lengths, micro, accumulate, epoch) -> None:
    steps = bucketed_batches(lengths, micro=micro, accumulate=accumulate, seed=1, epoch=epoch)
    assert sorted(row for step in steps for batch in step for row in batch) == list(range(len(lengths)))
    assert all(len(step) == accumulate for step in steps[:-1])
    assert all(0 < len(batch) <= micro for step in steps for batch in step)
    assert len(steps) == -(-len(lengths) // (micro * accumulate))


def test_order_follows_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 64).tolist()
    first = bucketed_batches(lengths, micro=4, accumulate=1, seed=0, epoch=0)
    assert first == bucketed_batches(lengths, micro=4, accumulate=1, seed=0, epoch=0)
    assert first != bucketed_batches(lengths, micro=4, accumulate=1, seed=0, epoch=1)
    assert first != bucketed_batches(lengths, micro=4, accumulate=1, seed=1, epoch=0)


def test_buckets_save_most_of_the_padding() -> None:
    lengths = np.random.default_rng(0).integers(10, 200, 512).tolist()

    def padded(batches: list[list[int]]) -> int:
        return sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)

    steps = bucketed_batches(lengths, micro=8, accumulate=1, seed=0, epoch=0)
    plain = [list(range(start, start + 8)) for start in range(0, 512, 8)]
    waste = padded([batch for step in steps for batch in step]) - sum(lengths)
    assert waste < 0.35 * (padded(plain) - sum(lengths))


def test_denominator_is_the_label_tokens_of_the_whole_optimiser_batch() -> None:
    rows = [Encoded(str(n), (5,) * (n % 4 + 1), (6,) * (n % 3 + 1) + (1,)) for n in range(10)]
    data = Seq2SeqData(rows, rows[:3], features=None, pad_id=0, micro=2, accumulate=2, eval_batch=2, seed=0)
    batches = list(data.train_dataloader())
    assert data.steps_per_epoch() == 3
    for step in (batches[0:2], batches[2:4], batches[4:]):
        tokens = sum(int((batch["labels"] != -100).sum()) for batch in step)
        assert {batch["denominator"] for batch in step} == {tokens}
    assert sum(len(batch["input_ids"]) for batch in data.val_dataloader()) == 3
