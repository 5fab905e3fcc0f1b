"""Greedy and sampled writing, log-probabilities and values of written responses."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationConfig
from transformers.models.t5.modeling_t5 import T5LayerNorm

from ares.models.inputs import Sampling
from ares.models.t5.generation import _normed
from ares.models.t5.loading import value_from_model
from ares.types import AresError
from tests.support.t5 import (
    Given,
    generate_greedy,
    lengths_of,
    policy_around,
    sample,
    states_logprobs,
    token_logprobs,
    values,
)


def padded(responses):
    length = max(map(len, responses))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in responses])
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (length - len(row)) for row in responses])
    return ids, mask


@pytest.fixture
def writer(policy):
    """A policy that ends some responses early: EOS is about as likely as any other token."""
    with torch.no_grad():
        policy.shared.weight *= 0.3
    return policy


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("states", [torch.float32, torch.bfloat16])
def test_norms_equal_transformers(weights, states):
    """Of bfloat16 weights and float32 states, too, which sharded policies have in bf16-mixed."""
    norm, x = T5LayerNorm(8, eps=1e-6).to(weights), 3 * torch.randn(5, 1, 8).to(states)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    torch.testing.assert_close(
        _normed(norm, x), norm(x), atol=1e-6, rtol=1e-6 if weights == states == torch.float32 else 2e-2
    )


def test_greedy_equals_the_recording(original, recorded):
    written = generate_greedy(
        original,
        recorded["in/input_ids"],
        recorded["in/attention_mask"],
        recorded["in/image_ids"],
        max_new_tokens=31,
    )
    expected = [[t for t in row if t != 0] for row in recorded["out/greedy_max32"][:, 1:].tolist()]
    assert written == expected
    assert written[1][-1] == 1
    assert len(written[1]) == 10


def test_token_logprobs_equal_the_recording(original, recorded):
    ids = recorded["in/decoder_input_ids"][:, 1:]
    mask = recorded["in/decoder_attention_mask"][:, 1:]
    found = token_logprobs(
        original,
        recorded["in/input_ids"],
        recorded["in/attention_mask"],
        recorded["in/image_ids"],
        ids,
        lengths_of(mask),
    )
    expected = recorded["out/logprobs_of_labels"]
    assert found.dtype == torch.float32
    assert ((found - expected)[mask].abs() <= 1e-5 * (1 + expected[mask].abs())).all()
    assert (found[~mask] == 0).all()


def test_cached_generation_equals_uncached(writer, batch):
    ours = generate_greedy(writer, **batch, max_new_tokens=12)
    for use_cache in (True, False):
        theirs = writer.generate(**batch, max_new_tokens=12, do_sample=False, use_cache=use_cache)
        theirs = theirs[:, 1:].masked_fill(theirs[:, 1:] == 0, -1)
        for row, other in zip(ours, theirs.tolist(), strict=True):
            assert row == [t for t in other if t != -1][: len(row)]


def test_rows_do_not_depend_on_what_is_computed_with_them(writer, batch):
    """Neither on the number of slots nor on the other prompts, although every row draws many tokens."""
    together = sample(writer, **batch, k=40, max_new_tokens=30, slots=1000)
    assert len({len(row) for row in together}) > 10
    for slots in (40, 57, 90):
        assert sample(writer, **batch, k=40, max_new_tokens=30, slots=slots) == together
    one = {name: tensor[:1] for name, tensor in batch.items()}
    assert sample(writer, **one, k=40, max_new_tokens=30) == together[:40]
    assert sample(writer, **batch, k=40, max_new_tokens=5) == [row[:5] for row in together]


def test_finished_rows_make_room_for_waiting_prompts(writer, batch, monkeypatch):
    computed = []
    hook = writer.decoder.embed_tokens.register_forward_hook(lambda *call: computed.append(len(call[2])))
    many = {name: tensor.repeat(10, *[1] * (tensor.dim() - 1)) for name, tensor in batch.items()}
    written = sample(writer, **many, k=4, max_new_tokens=60, slots=32)
    hook.remove()
    assert sum(computed) == sum(map(len, written))  # no finished row is computed
    assert computed[0] == max(computed) == 32
    # 120 rows through 32 slots: at least 16 are in progress while prompts wait.
    assert min(computed[: sum(rows >= 16 for rows in computed)]) >= 12


def test_generation_equals_the_networks_own_logits_at_every_step(writer, batch):
    """For rows of several ages, through growing caches, removed rows and removed prompts."""
    policy = policy_around(writer)
    given = Given(*(tensor.repeat(4, *[1] * (tensor.dim() - 1)) for tensor in batch.values()))
    written = policy.sample(given, k=3, max_new_tokens=150, seed=0, slots=12, sampling=Sampling())
    assert max(len(row.ids) for row in written) > 64
    ids, mask = padded([row.ids for row in written])
    with torch.no_grad():
        found = policy.token_logprobs(
            Given(*(t.repeat_interleave(3, 0) for t in given.tensors)), ids, lengths_of(mask)
        )
    for row, expected in zip(written, found, strict=True):
        assert row.exact
        torch.testing.assert_close(torch.tensor(row.logprobs), expected[: len(row.ids)], atol=1e-5, rtol=0)


def test_entropy_is_of_the_next_token_distribution(writer, batch):
    ids, mask = padded([[5, 6, 1], [7, 1], [8, 9, 10]])
    states = writer.decoder_states(**batch, decoder_input_ids=F.pad(ids, (1, 0))[:, :-1])
    _, entropy = states_logprobs(writer, states, ids, lengths_of(mask), entropy=True)
    expected = torch.distributions.Categorical(logits=writer.logits(states)).entropy()
    assert torch.allclose(entropy, expected * mask, atol=1e-5)
    assert not entropy.requires_grad


def test_logprobs_equal_those_during_sampling(writer, batch):
    torch.manual_seed(1)
    output = writer.generate(
        **batch, max_new_tokens=10, do_sample=True, top_k=0, output_logits=True, return_dict_in_generate=True
    )
    ids = output.sequences[:, 1:]
    ended = (ids == 1).cumsum(1) - (ids == 1).long()
    mask = (ended == 0).float()
    raw = torch.stack(output.logits, dim=1).log_softmax(-1).gather(2, ids[..., None]).squeeze(-1)
    found = token_logprobs(writer, **batch, response_ids=ids, lengths=lengths_of(mask))
    assert ((found - raw * mask).abs() <= 1e-5).all()


def test_order_length_and_eos_of_samples(writer, batch):
    responses = sample(writer, **batch, k=40, max_new_tokens=8)
    assert len(responses) == 3 * 40
    for row in responses:
        assert 0 not in row
        assert 1 not in row[:-1]
        assert len(row) == 8 or row[-1] == 1
    assert len({len(row) for row in responses}) > 4
    # Row i·k + j belongs to prompt i: with a peaked sampler all k equal the prompt's own greedy response.
    peaked = sample(writer, **batch, k=4, top_k=1, max_new_tokens=8)
    assert peaked == [row for row in generate_greedy(writer, **batch, max_new_tokens=8) for _ in range(4)]


def test_sampling_is_unfiltered_by_default(writer, batch):
    one = {name: tensor[:1] for name, tensor in batch.items()}
    writer.generation_config = GenerationConfig(
        do_sample=True, top_k=2, temperature=0.1, top_p=0.1, max_length=3
    )

    def kinds(**filters):
        rows = sample(writer, **one, k=3000, max_new_tokens=1, **filters)
        return {row[0] for row in rows}

    assert len(kinds()) > 30
    assert len(kinds(top_k=3)) == 3
    assert len(kinds(top_p=0.2)) < len(kinds(top_p=0.6)) < len(kinds())
    assert len(kinds(temperature=0.05)) < 10


def test_each_prompt_is_encoded_once(writer, batch, monkeypatch):
    seen = []
    forward = writer.encoder.forward
    monkeypatch.setattr(
        writer.encoder, "forward", lambda **kw: seen.append(kw["input_ids"].shape) or forward(**kw)
    )
    sample(writer, **batch, k=5, max_new_tokens=3)
    assert seen == [(3, 9)]


def test_generation_has_no_dropout_and_keeps_module_modes(writer, batch):
    expected = sample(writer.eval(), **batch, k=3, max_new_tokens=8)
    greedy = generate_greedy(writer, **batch, max_new_tokens=8)
    writer.train()
    writer.decoder.eval()
    modes = [module.training for module in writer.modules()]
    assert sample(writer, **batch, k=3, max_new_tokens=8) == expected
    assert generate_greedy(writer, **batch, max_new_tokens=8) == greedy
    assert [module.training for module in writer.modules()] == modes
    assert torch.is_grad_enabled()


def test_modes_are_restored_after_an_error(writer, batch):
    writer.train()
    batch["image_features"] = torch.zeros(3, 5, 7)
    with pytest.raises(AresError):
        sample(writer, **batch, k=2, max_new_tokens=4)
    assert writer.training
    assert writer.encoder.training


def test_loaded_model_samples_in_eval_mode(writer, batch, tmp_path):
    writer.save_pretrained(tmp_path)
    loaded = type(writer).from_pretrained(tmp_path)
    assert not loaded.training
    first = sample(loaded, **batch, k=3, max_new_tokens=8)
    assert sample(loaded.eval(), **batch, k=3, max_new_tokens=8) == first


def test_logprobs_and_values_ignore_padding(writer, batch):
    value = value_from_model(writer)
    nn.init.normal_(value.v_head[2].weight)
    ids, mask = padded(sample(writer, **batch, k=1, max_new_tokens=8, seed=2))
    wide = nn.functional.pad(ids, (0, 4), value=7), nn.functional.pad(mask, (0, 4))
    for model, function in ((writer, token_logprobs), (value, values)):
        model.eval()
        found = function(model, **batch, response_ids=ids, lengths=lengths_of(mask))
        assert found.shape == ids.shape
        assert (found[mask == 0] == 0).all()
        assert (found[mask == 1] != 0).all()
        wider = function(model, **batch, response_ids=wide[0], lengths=lengths_of(mask))
        assert torch.allclose(wider[:, : ids.shape[1]], found, atol=1e-5)
        assert (wider[:, ids.shape[1] :] == 0).all()


def test_values_are_of_the_state_before_each_token(writer, batch):
    value = value_from_model(writer)
    nn.init.normal_(value.v_head[2].weight)
    ids, mask = torch.randint(2, 40, (3, 6)), torch.ones(3, 6)
    changed = ids.clone()
    changed[:, 3] = (ids[:, 3] - 2 + 1) % 38 + 2
    before, after = (
        values(value, **batch, response_ids=row, lengths=lengths_of(mask)) for row in (ids, changed)
    )
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).all()


def test_logprobs_have_gradients(writer, batch):
    ids, mask = torch.randint(2, 40, (3, 6)), torch.ones(3, 6)
    found = token_logprobs(writer, **batch, response_ids=ids, lengths=lengths_of(mask))
    logits = writer(**batch, decoder_input_ids=nn.functional.pad(ids, (1, 0))[:, :-1]).logits
    expected = logits.log_softmax(-1).gather(2, ids[..., None]).squeeze(-1)
    assert torch.allclose(found, expected, atol=1e-5)
    ours = torch.autograd.grad(found.sum(), list(writer.parameters()))
    theirs = torch.autograd.grad(expected.sum(), list(writer.parameters()))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))
