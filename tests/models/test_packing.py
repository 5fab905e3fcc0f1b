"""Several sequences in one row, and what a T5 computes from them."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ares.models.packing import _PASS, of_similar_length, packing
from ares.rl.masked import pad_right
from ares.types import Example
from benchmarks.plain import stock
from tests.support.policies import number_policy
from tests.support.ppo import TinyFeatures

RESPONSES = [[3, 4, 5, 1], [6, 1], [7, 8, 9, 10, 11, 1], [3, 1], [4, 5, 6, 7, 1], [8, 9, 1]]
IDS, LENGTHS = pad_right(RESPONSES, 0), list(map(len, RESPONSES))
REAL = torch.arange(IDS.shape[1]) < torch.tensor(LENGTHS)[:, None]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=12),
    st.integers(1, 30),
)
def test_every_token_has_a_place_of_its_own(sequences: list[tuple[int, int]], longest_row: int) -> None:
    lengths, groups = [max(1, length) for length, _ in sequences], [group for _, group in sequences]
    layout = packing([length for length, _ in sequences], groups, width=9, longest_row=longest_row)
    ids = torch.arange(1, len(sequences) * 9 + 1).view(-1, 9)
    packed = layout.pack(ids, 0)
    assert sorted(packed[packed > 0].tolist()) == sorted(
        int(ids[row, t]) for row, length in enumerate(lengths) for t in range(length)
    )
    assert packed.shape[1] <= max(longest_row, *lengths)
    back = layout.unpack(packed[..., None].double()).squeeze(-1)
    for row, length in enumerate(lengths):
        assert back[row].tolist() == [*ids[row, :length].tolist(), *[0.0] * (9 - length)]
    positions, mask = layout.positions(), layout.mask(causal=True)[:, 0]
    for row, held in enumerate(layout.groups):
        owners = layout.owners[row].tolist()
        assert {groups[owner] for owner in owners if owner >= 0} == set(held)
        assert layout.of_groups[row].tolist() == [groups[owner] if owner >= 0 else -1 for owner in owners]
        for place, owner in enumerate(owners):
            if owner >= 0:
                seen = mask[row, place].nonzero().squeeze(1).tolist()
                assert [owners[other] for other in seen] == [owner] * len(seen)
                assert positions[row, place] == len(seen) - 1


@pytest.mark.parametrize("features", [None, TinyFeatures()])
@pytest.mark.parametrize("row", [512, 7])
def test_packed_states_and_gradients_equal_padded_ones(features, row, monkeypatch) -> None:
    """Prompts share rows of the encoder, and the responses of a prompt one of the decoder."""
    monkeypatch.setattr("ares.models.t5.states.LONGEST_ROW", row)
    policy = number_policy(features=features, num_layers=2)
    examples = [Example(text, "", text) for text in ("4 5 6", "7 8", "9 3 4 5 6 7")]
    inputs = policy.encode(examples).select([0, 0, 1, 2, 2, 2])
    value = policy.new_value(seed=0, shared=False)
    torch.nn.init.normal_(value.model.v_head[-1].weight)
    shifted = F.pad(IDS, (1, 0))[:, :-1]

    def padded(model):
        return model.decoder_states(*inputs.tensors, shifted)

    def differentiated(model, output):
        output[REAL].square().sum().backward()
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        return output.detach(), found

    packed_logprobs = policy.token_logprobs(inputs, IDS, LENGTHS)
    plain_logprobs = policy.logprobs(padded(policy.model), IDS, LENGTHS)[0]
    packed_values = value.values(inputs, IDS, LENGTHS)
    plain_values = value.head(padded(value.model)).squeeze(-1) * REAL
    for model, packed, plain in (
        (policy, packed_logprobs, plain_logprobs),
        (value, packed_values, plain_values),
    ):
        found, slopes = differentiated(model, packed)
        expected, expected_slopes = differentiated(model, plain)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert slopes.keys() == expected_slopes.keys()
        for name, slope in expected_slopes.items():
            torch.testing.assert_close(slopes[name], slope, atol=1e-5, rtol=1e-4, msg=name)


def test_a_prompt_is_encoded_once_for_its_responses() -> None:
    policy = number_policy()
    inputs = policy.encode([Example("4 5 6", "", "a"), Example("7 8", "", "b")]).select([0, 0, 0, 1, 1, 1])
    tokens: list[int] = []
    handle = policy.model.encoder.register_forward_hook(
        lambda module, arguments, output: tokens.append(output.last_hidden_state.shape[:2].numel())
    )
    policy.token_logprobs(inputs, IDS, LENGTHS)
    handle.remove()
    assert tokens == [7]


def test_a_row_without_tokens_is_computed_nevertheless() -> None:
    """A rank without rows takes part in the step."""
    policy = number_policy()
    inputs = policy.encode([Example("4 5 6", "", "a")])
    found = policy.token_logprobs(inputs, IDS[:1], [0])
    assert found.eq(0).all()
    found.sum().backward()
    assert any(weight.grad is not None for _, weight in policy.trained())


def test_rows_are_as_wide_as_wastes_the_fewest_places() -> None:
    lengths = [325, 110, 75, 50]
    assert packing(lengths, [0, 1, 1, 1], width=325, longest_row=512).owners.shape == (2, 325)
    assert packing(lengths, [0, 1, 1, 1], width=325, longest_row=300).owners.shape == (2, 325)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 600), min_size=1, max_size=6))
def test_batches_of_similar_length_cost_least(lengths: list[int]) -> None:
    """Against all ways to cut the sorted sequences."""
    order = sorted(lengths)

    def cost(batches: list[list[int]]) -> int:
        return sum(_PASS + len(batch) * max(batch) for batch in batches)

    found = of_similar_length(lengths)
    assert sorted(row for batch in found for row in batch) == list(range(len(lengths)))
    cuts = [
        [n for n in range(1, len(order)) if number >> (n - 1) & 1] for number in range(2 ** (len(order) - 1))
    ]
    every = [[order[a:b] for a, b in itertools.pairwise([0, *cut, len(order)])] for cut in cuts]
    assert cost([[lengths[row] for row in batch] for batch in found]) == min(map(cost, every))


def test_a_lean_model_computes_what_transformers_does() -> None:
    """With its own masks and with none, where attention is causal without one."""
    policy = number_policy(features=TinyFeatures(), num_layers=2)
    inputs = policy.encode([Example(text, "", text) for text in ("4 5 6", "7 8", "9 3 4 5 6 7")])
    model, labels = policy.model, torch.randint(2, 16, (3, 5), generator=torch.Generator().manual_seed(0))
    ids, mask, images = inputs.tensors

    def slopes() -> list[torch.Tensor]:
        model.zero_grad()
        model(input_ids=ids, attention_mask=mask, image_features=images, labels=labels).loss.backward()
        return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    assert model.decoder.config._attn_implementation == model.encoder.config._attn_implementation == "ares_t5"
    found = slopes()
    with stock(model):
        expected = slopes()
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)
