"""Responses of a T5 that continue given beginnings (of vision-language models: test_families.py)."""

from typing import Any

import pytest

from ares.models.inputs import Sampling
from ares.models.t5.policy import T5Policy
from ares.types import Example
from tests.support.policies import number_policy
from tests.support.ppo import TinyFeatures

HOW: dict[str, Any] = {"max_new_tokens": 70, "seed": 3, "sampling": Sampling()}


@pytest.fixture(scope="module")
def policy() -> T5Policy:
    return number_policy(features=TinyFeatures(), num_layers=2, initializer_factor=0.3)


def samples(policy: T5Policy) -> tuple[Any, list[list[int]]]:
    """Twelve prompts, four times three, and a sample for each."""
    inputs = policy.encode([Example(text, "", text) for text in ("4 5 6", "7", "9 3 4 5 6 7")]).repeat(4)
    return inputs, [sample.ids for sample in policy.sample(inputs, k=1, **HOW)]


@pytest.mark.parametrize("slots", [4, 64])
def test_a_sample_continues_from_its_beginning_as_it_was(policy: T5Policy, slots: int) -> None:
    """What a row draws depends on its number and the place alone, however much of it is given."""
    inputs, expected = samples(policy)
    beginnings = [ids[: 7 * row % (len(ids) + 1)] for row, ids in enumerate(expected)]
    beginnings = [ids[:-1] if ids[-1:] == [1] else ids for ids in beginnings]
    assert len({len(ids) for ids in beginnings}) > 4
    assert max(map(len, expected)) > 20
    assert policy.continuations(inputs, beginnings, **HOW, slots=slots) == expected
    assert policy.continuations(inputs, [[]] * 12, **HOW, slots=slots) == expected
    assert policy.continuations(inputs.select([]), [], **HOW) == []


def test_a_beginning_is_read_once_for_all_that_share_it(policy: T5Policy) -> None:
    inputs, _ = samples(policy)
    read: dict[str, list[tuple[int, ...]]] = {"encoder": [], "decoder": []}
    handles = [
        stack.register_forward_hook(
            lambda stack, given, found, name=name: read[name].append(found.last_hidden_state.shape[:2])
        )
        for name, stack in (("encoder", policy.model.encoder), ("decoder", policy.model.decoder))
    ]
    beginnings = [[5, 6, 7, 8]] * 4 + [[5, 6], [5, 6, 7, 8]] * 2 + [[9]] * 4
    found = policy.continuations(inputs, beginnings, **HOW)
    for handle in handles:
        handle.remove()
    # Two responses share each of five beginnings or, of the first and the last, four.
    assert read["decoder"] == [(6, 4)]
    assert read["encoder"][0][0] == 6
    assert all(ids[: len(given)] == given for ids, given in zip(found, beginnings, strict=True))
    assert len(set(map(tuple, found))) == 12


def test_continuations_are_as_long_as_they_may_be(policy: T5Policy) -> None:
    inputs, _ = samples(policy)
    how = {**HOW, "max_new_tokens": 4}
    beginnings = [[5, 6, 7, 8], [5, 6, 7, 8, 9]] * 6
    assert policy.continuations(inputs, beginnings, **how) == [[5, 6, 7, 8]] * 12
