"""Batches of supervised examples: each row once, fixed optimizer steps, similar lengths together."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.datamodules.supervised import SupervisedData, bucketed_batches, encode
from ares.types import Example
from tests.support.policies import number_policy


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=120),
    micro=st.integers(1, 5),
    accumulate=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_batches_visit_every_row_once_with_partial_last_step(lengths, micro, accumulate, epoch) -> None:
    steps = bucketed_batches(lengths, micro=micro, accumulate=accumulate, seed=1, epoch=epoch)
    assert sorted(row for step in steps for batch in step for row in batch) == list(range(len(lengths)))
    assert all(len(step) == accumulate for step in steps[:-1])
    assert all(0 < len(batch) <= micro for step in steps for batch in step)
    assert len(steps) == -(-len(lengths) // (micro * accumulate))


def test_order_depends_on_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 64).tolist()
    first = bucketed_batches(lengths, micro=4, accumulate=1, seed=0, epoch=0)
    assert first == bucketed_batches(lengths, micro=4, accumulate=1, seed=0, epoch=0)
    assert first != bucketed_batches(lengths, micro=4, accumulate=1, seed=0, epoch=1)
    assert first != bucketed_batches(lengths, micro=4, accumulate=1, seed=1, epoch=0)


def test_bucketing_removes_most_padding() -> None:
    lengths = np.random.default_rng(0).integers(10, 200, 512).tolist()

    def padded(batches: list[list[int]]) -> int:
        return sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)

    steps = bucketed_batches(lengths, micro=8, accumulate=1, seed=0, epoch=0)
    plain = [list(range(start, start + 8)) for start in range(0, 512, 8)]
    waste = padded([batch for step in steps for batch in step]) - sum(lengths)
    assert waste < 0.35 * (padded(plain) - sum(lengths))


def test_denominator_is_the_target_tokens_of_the_optimizer_batch() -> None:
    policy = number_policy()
    rows = [Example("5 " * (n % 4 + 1), "6 " * (n % 3 + 1), str(n)) for n in range(10)]
    data = SupervisedData(pad_id=0, micro=2, accumulate=2, eval_batch=2, seed=0)
    data.train, data.val = (encode(policy, part, max_output_tokens=9) for part in (rows, rows[:3]))
    batches = list(data.train_dataloader())
    assert data.steps_per_epoch == 3
    for step in (batches[0:2], batches[2:4], batches[4:]):
        tokens = sum(sum(batch["lengths"]) for batch in step)
        assert {batch["denominator"] for batch in step} == {tokens}
    assert sum(len(batch["inputs"]) for batch in data.val_dataloader()) == 3


def test_micro_batches_of_a_number_of_tokens_are_equally_many_in_each_step() -> None:
    policy = number_policy()
    rows = [Example("5 " * (n * 7 % 11), "6 " * (n % 3 + 1), str(n)) for n in range(30)]
    data = SupervisedData(pad_id=0, micro=4, accumulate=2, eval_batch=2, seed=0, micro_tokens=24)
    data.train = encode(policy, rows, max_output_tokens=9)
    data.plan(epochs=3)
    batches = list(data.train_dataloader())
    assert len(batches) == data.steps_per_epoch * data.accumulate
    assert data.steps_per_epoch == 4
    for batch in batches:
        lengths = [*batch["lengths"], *batch["inputs"].lengths]
        assert len(batch["lengths"]) == 1 or sum(lengths) <= 24
    for first in range(0, len(batches), data.accumulate):
        step = batches[first : first + data.accumulate]
        tokens = sum(sum(batch["lengths"]) for batch in step)
        assert {batch["denominator"] for batch in step} == {tokens}
    assert sum(sum(batch["lengths"]) for batch in batches) == sum(map(len, data.train.targets))


def test_targets_are_padded_on_the_right() -> None:
    policy = number_policy()
    data = SupervisedData(pad_id=0, micro=2, accumulate=1, eval_batch=2, seed=0)
    examples = [Example("5", "8 0", "a"), Example("5 6", "", "b")]
    data.train = data.val = encode(policy, examples, max_output_tokens=9)
    [batch] = list(data.val_dataloader())
    assert batch["response_ids"].tolist() == [[8, 0, 1], [1, 0, 0]]
    assert batch["lengths"] == [3, 1]
    assert data.train.batch([], 1, 0)["lengths"] == [0]
