from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.datamodules.buffer import RolloutBuffer, is_held_out
from ares.datamodules.parts import filled, spread
from ares.datamodules.rollouts import RolloutData, optimizer_batches, units_of
from ares.storage.flat import flat_rollouts
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


def make(rollouts=None, scores=None, holdout: float = 0.0, **settings) -> RolloutBuffer:
    return RolloutBuffer(
        number_policy(),
        EXAMPLES,
        flat_rollouts(rows() if rollouts is None else rollouts),
        SCORES if scores is None else scores,
        neutral=0.5,
        holdout=holdout,
        **settings,
    )


def many(count: int) -> RolloutBuffer:
    rollouts = [row(f"{'abcd'[i % 4]}/{i}", (0,), 1 + i * 7 % 11) for i in range(count)]
    return make(rollouts, {r.row_id: (0.5,) for r in rollouts})


def data_of(buffer: RolloutBuffer, **changes) -> RolloutData:
    settings = {"global_batch": 8, "micro": 2, "world": 1, "seed": 3, **changes}
    return RolloutData(buffer, **settings)


def test_unscored_rows_are_excluded_and_counted():
    buffer = make()
    assert [buffer.rollouts.row_ids[i] for i in buffer.kept] == ["a/0", "a/1", "b/0", "c/0"]
    assert buffer.train == [0, 1, 2, 3]
    metrics = buffer.metrics()
    assert metrics["quarantined"] == metrics["empty"] == pytest.approx(1 / 6)
    assert metrics["score"] == pytest.approx((0.9 + 0.2 + 0.5 + 1.0 + 0.0 + 0.7) / 6)
    assert metrics["sentences"] == 6 / 4
    assert metrics["length"] == 14 / 4


def test_rewards_and_logprobs_are_aligned_with_tokens():
    buffer = make()
    assert buffer.rewards[buffer.tokens(0)].tolist() == pytest.approx([0, 0.4, 0, -0.3, 0])
    assert buffer.rewards[buffer.tokens(3)].tolist() == pytest.approx([-0.5, 0.2, 0])
    assert buffer.lengths == [5, 2, 4, 3]
    assert buffer.token_ids[buffer.tokens(1)].tolist() == [2, 1]
    with_penalty = buffer.token_rewards(kl_coef=0.1)
    torch.testing.assert_close(with_penalty, buffer.rewards - 0.1 * 0.5)
    assert torch.equal(buffer.token_rewards(kl_coef=0.0), buffer.rewards)


def test_a_rationale_with_one_reward_gets_its_mean_score_at_its_end():
    buffer = make(granularity="rationale")
    assert buffer.rewards[buffer.tokens(0)].tolist() == pytest.approx([0, 0, 0, 0.05, 0])
    assert buffer.rewards[buffer.tokens(3)].tolist() == pytest.approx([0, -0.15, 0])
    assert buffer.ends == [[3], [0], [2], [1]]  # what comparisons of a question's rationales see


def test_further_rewards_are_added_at_the_last_token_under_their_names():
    buffer = make(
        sentence_weight=0.5, terms={"length": [-1, -2, -3, -4, -5, -6], "correct": [0, 0, 0, 2, 0, 0]}
    )
    assert buffer.rewards[buffer.tokens(0)].tolist() == pytest.approx([0, 0.2, 0, -0.15, -1])
    assert buffer.rewards[buffer.tokens(3)].tolist() == pytest.approx([-0.25, 0.1, -2])
    assert buffer.terms == pytest.approx({"sentences": 0.15 / 4, "length": -2.5, "correct": 0.5})


def test_a_batch_is_cut_to_its_longest_row():
    batch = make().batch([1, 3])
    assert batch["rows"].tolist() == [1, 3]
    assert batch["inputs"].tensors[0].tolist() == [[4, 5, 1, 0], [7, 8, 9, 1]]
    assert batch["response_ids"].tolist() == [[2, 1, 0], [2, 3, 1]]
    assert batch["response_ids"].dtype == torch.int64
    assert batch["lengths"] == [2, 3]
    assert batch["response_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["old_logprobs"].tolist() == [[-0.5, -0.5, 0], [-0.5] * 3]


def test_no_rows_give_a_fully_masked_batch():
    batch = make().batch([])
    assert batch["response_ids"].numel() > 0
    assert batch["lengths"] == [0]
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
    assert {buffer.pids[i] for i in buffer.heldout} == expected
    assert not {buffer.pids[i] for i in buffer.train} & expected
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


UNITS = st.lists(st.integers(1, 4), min_size=1, max_size=60)


def numbered(sizes: list[int]) -> list[list[int]]:
    """Units of consecutive rows."""
    ends = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return [list(range(start, end)) for start, end in pairwise(ends)]


@settings(deadline=None)
@given(UNITS, st.integers(4, 64), st.integers(0, 99), st.integers(0, 9))
def test_an_epoch_visits_every_unit_once_in_even_batches(sizes, size, seed, epoch):
    units = numbered(sizes)
    steps = optimizer_batches(units, size=size, seed=seed, epoch=epoch)
    assert sorted(unit for step in steps for unit in step) == units
    counts = [len(step) for step in steps]
    assert max(counts) - min(counts) <= 1
    assert len(steps) == min(len(units), -(-sum(sizes) // size))
    assert steps == optimizer_batches(units, size=size, seed=seed, epoch=epoch)


def test_order_changes_with_epoch_and_seed():
    units = numbered([1] * 50)
    orders = [
        [unit for step in optimizer_batches(units, size=8, seed=seed, epoch=epoch) for unit in step]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_units_are_the_rows_of_a_question_or_even_parts_of_them():
    assert units_of([[0, 1, 2, 3], [4], [5, 6, 7]], 4) == [[0, 1, 2, 3], [4], [5, 6, 7]]
    assert units_of([[0, 1, 2, 3], [4], [5, 6, 7]], 2) == [[0, 1], [2, 3], [4], [5, 6], [7]]


@settings(deadline=None)
@given(UNITS, st.integers(4, 20), st.sampled_from([None, 5, 40]), st.integers(0, 5))
def test_parts_keep_to_rows_or_tokens(sizes, rows, tokens, more):
    units = sorted(numbered(sizes), key=len)

    def cost(unit):
        return 3 * len(unit)

    parts = filled(units, cost, rows=rows, tokens=tokens)
    assert [unit for part in parts for unit in part] == units
    for part in parts:
        assert len(part) == 1 or sum(map(cost, part)) <= (tokens or 3 * rows)
    even = spread(parts, cost, len(parts) + more)
    assert len(even) == len(parts) + more
    assert [row for part in even for row in part] == [row for unit in units for row in unit]


@settings(deadline=None)
@given(
    st.integers(1, 40), st.sampled_from([4, 8, 16]), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])
)
def test_ranks_split_each_step_without_repeats(count, global_batch, micro, world):
    buffer = many(count)
    alone = data_of(buffer, global_batch=global_batch, micro=micro, world=1, epochs=3)
    data = data_of(buffer, global_batch=global_batch, micro=micro, world=world, epochs=3)
    ranks = [data.epoch_batches(2, rank) for rank in range(world)]
    lengths = {len(batches) for batches in ranks}
    assert lengths == {data.steps_per_epoch * data.accumulate}
    assert all(len(part) <= micro for batches in ranks for part, _ in batches)
    for step in range(data.steps_per_epoch):
        here = slice(step * data.accumulate, (step + 1) * data.accumulate)
        together = sorted(r for batches in ranks for part, _ in batches[here] for r in part)
        expected = alone.epoch_batches(2, 0)[step * alone.accumulate : (step + 1) * alone.accumulate]
        assert together == sorted(r for part, _ in expected for r in part)
        assert {t for batches in ranks for _, t in batches[here]} == {t for _, t in expected}
        assert {t for _, t in expected} == {sum(buffer.lengths[r] for r in together)}


def test_rows_of_a_question_share_a_micro_batch():
    data = data_of(many(16), global_batch=8, micro=8)
    for part, _ in data.epoch_batches(0, 0):
        assert len({data.buffer.pids[row] for row in part}) == len(part) // 4


def test_micro_batches_of_a_number_of_tokens():
    data = data_of(many(16), global_batch=16, micro_tokens=60)
    parts = [part for part, _ in data.epoch_batches(0, 0)]
    for part in parts:
        questions = {data.buffer.pids[row] for row in part}
        tokens = sum(data.buffer.lengths[row] for row in part) + sum(
            len(PROMPTS[q].split()) + 1 for q in questions
        )
        assert len(questions) == 1 or tokens <= 60
    assert any(len({data.buffer.pids[row] for row in part}) > 1 for part in parts)


def test_loader_returns_the_denominator_of_the_full_step():
    buffer = many(10)
    data = data_of(buffer, global_batch=4)
    batches = list(data.train_dataloader())
    assert len(batches) == data.steps_per_epoch * data.accumulate
    for step in range(data.steps_per_epoch):
        parts = batches[step * data.accumulate : (step + 1) * data.accumulate]
        real = sum(part["response_mask"].sum().item() for part in parts)
        assert {part["denominator"] for part in parts} == {real}
    seen = sorted(r for batch in batches for r in batch["rows"].tolist())
    assert seen == list(range(10))
