from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.datamodules.buffer import RolloutBuffer, is_held_out
from ares.datamodules.rollouts import RolloutData, micro_batches, optimizer_batches
from ares.types import AresError, Example, Rollout, Span
from tests.support.policies import number_policy

SCORES = {"a/0": (0.9, 0.2), "a/1": (0.5,), "b/0": (1.0,), "c/0": (0.0, 0.7)}
PROMPTS = {"a": "4 5", "b": "6", "c": "7 8 9", "d": "4"}
EXAMPLES = {pid: Example(prompt, "", pid) for pid, prompt in PROMPTS.items()}


def row(row_id: str, ends: tuple[int, ...], tokens: int, reference: float = -1.0) -> Rollout:
    pid, sample = row_id.split("/")
    return Rollout(
        row_id=row_id,
        pid=pid,
        sample=int(sample),
        text="abcdef",
        token_ids=(*range(2, tokens + 1), 1),
        truncated=False,
        spans=tuple(Span(i, i + 1) for i in range(len(ends))),
        token_ends=ends,
        logprobs=(-0.5,) * tokens,
        ref_logprobs=(reference,) * tokens,
    )


def rows() -> list[Rollout]:
    return [
        row("a/0", (1, 3), 5),
        row("a/1", (0,), 2),
        row("b/0", (2,), 4),
        row("c/0", (0, 1), 3),
        row("c/1", (1,), 3),  # quarantined: no scores
        row("d/0", (), 1),  # empty
    ]


def make(rollouts=None, scores=None, holdout: float = 0.0) -> RolloutBuffer:
    return RolloutBuffer(
        number_policy(),
        EXAMPLES,
        rows() if rollouts is None else rollouts,
        SCORES if scores is None else scores,
        neutral=0.5,
        holdout=holdout,
    )


def many(count: int) -> RolloutBuffer:
    rollouts = [row(f"{'abcd'[i % 4]}/{i}", (0,), 1 + i * 7 % 11) for i in range(count)]
    return make(rollouts, {r.row_id: (0.5,) for r in rollouts})


def data_of(buffer: RolloutBuffer, **changes) -> RolloutData:
    settings = {"global_batch": 8, "micro": 2, "world": 1, "seed": 3, **changes}
    return RolloutData(buffer, **settings)


def test_unscored_rows_are_excluded_and_counted():
    buffer = make()
    assert [r.row_id for r in buffer.rows] == ["a/0", "a/1", "b/0", "c/0"]
    assert buffer.train == [0, 1, 2, 3]
    metrics = buffer.metrics()
    assert metrics["quarantined"] == metrics["empty"] == pytest.approx(1 / 6)
    assert metrics["score"] == pytest.approx((0.9 + 0.2 + 0.5 + 1.0 + 0.0 + 0.7) / 6)
    assert metrics["sentences"] == 6 / 4
    assert metrics["length"] == 14 / 4


def test_rewards_and_logprobs_are_aligned_with_tokens():
    buffer = make()
    assert buffer.rewards[0].tolist() == pytest.approx([0, 0.4, 0, -0.3, 0])
    assert buffer.rewards[3].tolist() == pytest.approx([-0.5, 0.2, 0, 0, 0])
    assert buffer.mask.sum(1).tolist() == buffer.lengths == [5, 2, 4, 3]
    assert buffer.response_ids[1].tolist() == [2, 1, 0, 0, 0]
    assert not buffer.logprobs[buffer.mask == 0].any()
    with_penalty = buffer.token_rewards(kl_coef=0.1)
    torch.testing.assert_close(with_penalty, buffer.rewards - 0.1 * 0.5 * buffer.mask)
    assert torch.equal(buffer.token_rewards(kl_coef=0.0), buffer.rewards)


def test_a_batch_is_cut_to_its_longest_row():
    batch = make().batch([1, 3])
    assert batch["rows"].tolist() == [1, 3]
    assert batch["inputs"].tensors[0].tolist() == [[4, 5, 1, 0], [7, 8, 9, 1]]
    assert batch["response_ids"].tolist() == [[2, 1, 0], [2, 3, 1]]
    assert batch["response_ids"].dtype == torch.int64
    assert batch["response_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["old_logprobs"].tolist() == [[-0.5, -0.5, 0], [-0.5] * 3]


def test_no_rows_give_a_fully_masked_batch():
    batch = make().batch([])
    assert batch["response_ids"].numel() > 0
    assert not batch["response_mask"].any()


def test_questions_are_held_out_with_all_their_rationales():
    pids = [f"q{i}" for i in range(400)]
    held = {pid for pid in pids if is_held_out(pid, 0.05)}
    assert 5 <= len(held) <= 40
    assert held == {pid for pid in reversed(pids) if is_held_out(pid, 0.05)}
    assert held <= {pid for pid in pids if is_held_out(pid, 0.2)}
    assert not any(is_held_out(pid, 0.0) for pid in pids)
    fraction = 0.5
    expected = {pid for pid in "abc" if is_held_out(pid, fraction)}
    assert expected
    assert expected != set("abc")
    buffer = make(holdout=fraction)
    assert {buffer.rows[i].pid for i in buffer.heldout} == expected
    assert not {buffer.rows[i].pid for i in buffer.train} & expected
    assert sorted(buffer.train + buffer.heldout) == list(range(len(buffer)))


def test_groups_are_the_scored_rows_of_a_question():
    assert make().groups() == [[0, 1], [2], [3]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": {**SCORES, "a/0": (0.9,)}}, "a/0 has 2 sentences and 1 scores"),
        ({"scores": {**SCORES, "b/0": (1.5,)}}, "scores of rollout b/0"),
        ({"scores": {**SCORES, "b/0": (float("nan"),)}}, "scores of rollout b/0"),
        ({"rollouts": [replace(rows()[0], logprobs=(0.0,))]}, "a/0 does not have one log-probability"),
        ({"rollouts": [replace(rows()[0], pid="zz")]}, "not in the data"),
        ({"scores": {}}, "None of 6 rollouts has scores"),
        ({"holdout": 0.9999999}, "none is left to train on"),
    ],
)
def test_inconsistent_rows_are_refused(change, message):
    with pytest.raises(AresError, match=message):
        make(**change)


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 99), st.integers(0, 9))
def test_an_epoch_visits_every_row_once_in_even_batches(count, size, seed, epoch):
    steps = optimizer_batches(range(count), size=size, seed=seed, epoch=epoch)
    assert sorted(r for step in steps for r in step) == list(range(count))
    sizes = [len(step) for step in steps]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(steps) == -(-count // size)
    assert steps == optimizer_batches(range(count), size=size, seed=seed, epoch=epoch)


def test_order_changes_with_epoch_and_seed():
    orders = [
        [r for step in optimizer_batches(range(50), size=8, seed=seed, epoch=epoch) for r in step]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] != orders[1] != orders[2] != orders[0]


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(1, 20))
def test_micro_batches_are_even_and_sorted_by_length(sizes, count):
    parts = micro_batches(range(len(sizes)), sizes, count)
    assert len(parts) == count
    assert sorted(r for part in parts for r in part) == list(range(len(sizes)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    lengths = [sizes[r] for part in parts for r in part]
    assert lengths == sorted(lengths)


@settings(deadline=None)
@given(
    st.integers(1, 40), st.sampled_from([4, 8, 16]), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])
)
def test_ranks_split_each_step_without_repeats(count, global_batch, micro, world):
    buffer = many(count)
    alone = data_of(buffer, global_batch=global_batch, micro=global_batch, world=1)
    data = data_of(buffer, global_batch=global_batch, micro=micro, world=world)
    ranks = [data.epoch_batches(2, rank) for rank in range(world)]
    lengths = {len(batches) for batches in ranks}
    assert lengths == {data.steps_per_epoch * data.accumulate}
    assert all(len(part) <= micro for batches in ranks for part, _ in batches)
    for step in range(data.steps_per_epoch):
        here = slice(step * data.accumulate, (step + 1) * data.accumulate)
        together = sorted(r for batches in ranks for part, _ in batches[here] for r in part)
        (expected, tokens), *rest = alone.epoch_batches(2, 0)[
            step * alone.accumulate : (step + 1) * alone.accumulate
        ]
        assert not rest
        assert together == sorted(expected)
        assert {t for batches in ranks for _, t in batches[here]} == {tokens}
        assert tokens == sum(buffer.lengths[r] for r in expected)


def test_loader_returns_the_denominator_of_the_full_step():
    buffer = many(10)
    data = data_of(buffer, global_batch=4)
    batches = list(data.train_dataloader())
    assert len(batches) == data.steps_per_epoch * data.accumulate == 6
    for step in range(3):
        parts = batches[2 * step : 2 * step + 2]
        real = sum(part["response_mask"].sum().item() for part in parts)
        assert [part["denominator"] for part in parts] == [real, real]
    seen = sorted(r for batch in batches for r in batch["rows"].tolist())
    assert seen == list(range(10))
