"""What the rest of the suite relies on in a policy."""

import hashlib
from functools import partial

import numpy as np
import pytest
import torch

from ares.models.continuing import continued
from ares.models.inputs import Sample, Sampling
from ares.models.policy import Policy
from ares.models.t5.policy import T5Policy
from ares.rl.masked import pad_right
from ares.text.sentences import sentence_spans
from ares.types import AresError, Example
from tests.support.number_vlm import number_vlm, picture
from tests.support.policies import EOS, number_policy

EXAMPLES = [
    Example("5 6 7", "8 9", "a", question="5 6 7"),
    Example("3", "4", "b", (picture(0),), "3"),
    Example("9 9 4 3 3", "", "c", (picture(1), picture(2)), "9 9 4 3 3"),
]


class Images:
    """Two patches of three numbers per problem, drawn from its id."""

    shape = (2, 3)

    def get(self, pids):
        seeds = [int(hashlib.sha256(pid.encode()).hexdigest()[:8], 16) for pid in pids]
        return np.stack([np.random.default_rng(s).normal(size=(2, 3)).astype(np.float32) for s in seeds])


KINDS = {
    "t5": partial(number_policy, features=Images()),
    "vlm": number_vlm,
    "vlm-all-weights": partial(number_vlm, r=0),
}


@pytest.fixture(params=KINDS)
def policy(request: pytest.FixtureRequest) -> Policy:
    return KINDS[request.param]()


@pytest.fixture
def t5() -> T5Policy:
    return number_policy(features=Images())


def batched(responses: list[list[int]]) -> tuple[torch.Tensor, list[int]]:
    return pad_right(responses, 0), list(map(len, responses))


def test_encoded_prompts_can_be_selected_and_repeated(policy: Policy) -> None:
    inputs = policy.encode(EXAMPLES)
    assert len(inputs) == 3
    a, b, c = inputs.lengths
    assert len({a, b, c}) == 3
    assert list(inputs.select([2, 0]).lengths) == [c, a]
    assert list(inputs.repeat(2).lengths) == [a, a, b, b, c, c]
    begun = inputs.select([0, 0, 1]).begun([[5], [6], [5, 6]])
    distinct, which = begun.select([0, 1, 0, 2]).distinct()
    assert which == [0, 1, 0, 2]
    assert list(distinct.lengths) == [a + 1, a + 1, b + 2]


def test_prompt_that_cannot_be_shortened_is_refused(t5: T5Policy) -> None:
    t5.max_input_tokens = 6
    assert list(t5.encode(EXAMPLES).lengths) == [4, 2, 6]
    t5.max_input_tokens = 3
    with pytest.raises(
        AresError, match=r"options of problem a have 4 tokens, more than text\.max_input_tokens=3"
    ):
        t5.encode(EXAMPLES)


def test_targets_end_with_eos_within_the_limit(policy: Policy) -> None:
    assert policy.encode_targets(EXAMPLES, max_tokens=2) == [[8, EOS], [4, EOS], [EOS]]
    assert policy.encode_targets([], max_tokens=2) == []


def test_a_padding_id_inside_a_prompt_is_part_of_it(t5: T5Policy) -> None:
    inputs = t5.encode([Example("5 0 6", "", "a"), Example("7", "", "b")])
    ids, mask, images = inputs.tensors
    assert ids.tolist() == [[5, 0, 6, EOS], [7, EOS, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert images is not None
    np.testing.assert_array_equal(images.numpy(), Images().get(["a", "b"]))


@torch.no_grad()
def test_logprobs_equal_the_full_softmax_and_ignore_other_rows(policy: Policy) -> None:
    inputs, responses = policy.encode(EXAMPLES), [[5, 6, EOS], [7, EOS], [8, 9, 10, 3]]
    ids, lengths = batched(responses)
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    states = policy.states(inputs, ids)
    found, entropy = policy.logprobs(states, ids, lengths, entropy=True)
    full = policy.logits(states).log_softmax(-1)
    expected = full.gather(-1, ids[..., None]).squeeze(-1) * mask
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(entropy, -(full.exp() * full).sum(-1) * mask, atol=1e-5, rtol=1e-5)
    for row, response in enumerate(responses):
        alone = policy.token_logprobs(inputs.select([row]), *batched([response]))
        torch.testing.assert_close(alone[0], found[row, : len(response)], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_images_change_the_logprobs(t5: T5Policy) -> None:
    ids, lengths = batched([[5, 6]])
    own = t5.token_logprobs(t5.encode([Example("5", "", "a")]), ids, lengths)
    other = t5.token_logprobs(t5.encode([Example("5", "", "b")]), ids, lengths)
    assert not torch.allclose(own, other)


def ids_of(samples: list[Sample]) -> list[list[int]]:
    return [sample.ids for sample in samples]


def test_samples_are_grouped_by_prompt_and_follow_the_seed(policy: Policy) -> None:
    inputs = policy.encode(EXAMPLES)
    arguments = {"k": 3, "max_new_tokens": 5, "sampling": Sampling()}
    written = ids_of(policy.sample(inputs, seed=0, **arguments))
    assert len(written) == 9
    assert written == ids_of(policy.sample(inputs, seed=0, **arguments))
    assert written != ids_of(policy.sample(inputs, seed=1, **arguments))
    greedy = policy.greedy(inputs, max_new_tokens=5)
    only = policy.sample(inputs, k=2, max_new_tokens=5, seed=0, sampling=Sampling(top_k=1))
    assert ids_of(only) == [greedy[row] for row in (0, 0, 1, 1, 2, 2)]


@torch.no_grad()
def test_samples_and_their_logprobs_do_not_depend_on_the_slots(policy: Policy) -> None:
    """Nor on how often finished rows are removed."""
    inputs = policy.encode(EXAMPLES * 3)
    found = [
        policy.sample(inputs, k=3, max_new_tokens=20, seed=3, sampling=Sampling(), slots=slots, every=every)
        for slots, every in ((1, 1), (6, 1), (10, 16), (64, 1), (64, 16))
    ]
    ids, lengths = batched(ids_of(found[0]))
    expected = policy.token_logprobs(inputs.repeat(3), ids, lengths)
    for samples in found:
        assert ids_of(samples) == ids_of(found[0])
        torch.testing.assert_close(
            pad_right([s.logprobs or [] for s in samples], 0.0), expected, atol=1e-5, rtol=0
        )


def test_a_continuation_is_chosen_by_the_probabilities_of_the_complete_response(policy: Policy) -> None:
    """Also next to beginnings of other lengths; nothing is computed beyond the longest response."""
    inputs, beginnings = policy.encode(EXAMPLES), [[5, 6, 7], [4], []]
    seen: dict[tuple[int, int], torch.Tensor] = {}

    def choose(logits, rows, ages):
        seen.update(zip(zip(rows.tolist(), ages.tolist(), strict=True), logits, strict=True))
        return 3 + (rows + ages) % 4, None

    written = continued(policy, inputs, beginnings, choose, longest=6)
    assert [ids[: len(begun)] for ids, begun in zip(written, beginnings, strict=True)] == beginnings
    assert set(seen) == {(row, age) for row in range(3) for age in range(len(beginnings[row]), 6)}
    with torch.no_grad():
        expected = policy.logits(policy.states(inputs, torch.tensor(written)))
    for (row, age), logits in seen.items():
        torch.testing.assert_close(logits, expected[row, age], rtol=1e-4, atol=1e-5)


def test_generation_keeps_the_mode_of_every_module(policy: Policy) -> None:
    policy.train()
    policy.logits(torch.zeros(1, 16))
    policy.greedy(policy.encode(EXAMPLES), max_new_tokens=2)
    assert all(module.training for module in policy.modules())


@torch.no_grad()
@pytest.mark.parametrize("shared", [False, True])
def test_a_new_value_model_predicts_zero_and_is_saved_and_loaded(policy, tmp_path, shared: bool) -> None:
    inputs, (ids, lengths) = policy.encode(EXAMPLES), batched([[5, 6, EOS], [7, EOS], [8]])
    value = policy.new_value(seed=0, shared=shared)
    assert value.values(inputs, ids, lengths).tolist() == [[0.0] * 3] * 3
    for parameter in value.head.parameters():
        parameter.add_(0.1)
    found = value.values(inputs, ids, lengths)
    mask = torch.arange(3) < torch.tensor(lengths)[:, None]
    assert (found[mask] != 0).all()
    assert (found[~mask] == 0).all()
    states = policy.states(inputs, ids)
    torch.testing.assert_close(value.values(inputs, ids, lengths, states=states), found)
    value.save(tmp_path)
    for again in (True, False):
        loaded = policy.load_value(tmp_path, shared=again)
        torch.testing.assert_close(loaded.values(inputs, ids, lengths), found)


def test_decode_and_sentences_return_the_same_text(t5_tokenizer) -> None:
    """With escaped line breaks, T5 writes an unknown token and an "n" for each of them."""
    policy = T5Policy(number_policy().model, t5_tokenizer, newline="escape")
    ids = t5_tokenizer("Solution: Ice is cold.\\nSteam is hot.")["input_ids"]
    text, spans, _ = policy.sentences(ids)
    assert policy.decode(ids) == text == "Solution: Ice is cold.\nSteam is hot."
    assert len(spans) == 2
    assert text == sentence_spans(t5_tokenizer, ids, newline="escape")[0]


def test_cache_of_images_counts_only_prompts_in_use() -> None:
    policy = number_vlm()
    inputs = policy.encode(EXAMPLES)
    assert policy.reader._cached == sum(t.nbytes for sample in inputs.samples for t in sample.images.values())
    del inputs
    assert policy.reader._cached == 0
