"""PPO with fewer weights in memory: on adapters, and with one body for policy and value."""

from dataclasses import replace

import pytest
import torch
from ares.modules.adapter import adapt, merge

from ares.config.schema import RlLoraConfig
from ares.models.heads import SharedBackboneValue, take_trunk
from ares.models.t5.generation import token_logprobs, values
from ares.models.t5.loading import value_from_policy
from ares.modules.targets import model_inputs
from tests.modules.test_ppo import (
    RL,
    TinyFeatures,
    Watch,
    good_share,
    make_buffer,
    same,
    tiny_policy,
    train,
    weights,
)

ADAPTER = RlLoraConfig(r=4, alpha=8)


def logprobs_of(policy, buffer, features=None) -> torch.Tensor:
    with torch.no_grad():
        return token_logprobs(policy, *model_inputs(buffer.batch(range(len(buffer)), features)))


def test_the_reference_is_the_policy_with_its_adapter_off():
    policy, features = tiny_policy(), TinyFeatures()
    buffer = make_buffer(policy, features=features)
    expected = logprobs_of(policy, buffer, features)
    adapter = adapt(policy, r=4, alpha=8, targets="all", features=True)
    torch.testing.assert_close(logprobs_of(policy, buffer, features), expected)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    moved = logprobs_of(policy, buffer, features)
    assert (moved - expected).abs().max() > 0.1
    adapter.disable_adapter_layers()
    torch.testing.assert_close(logprobs_of(policy, buffer, features), expected)
    torch.testing.assert_close(buffer.ref_logprobs, expected, atol=1e-5, rtol=1e-5)


def test_a_merged_adapter_says_what_it_said_and_is_an_ordinary_policy_again():
    policy = tiny_policy()
    buffer, plain = make_buffer(policy), weights(policy)
    adapter = adapt(policy, r=4, alpha=8, targets="all", features=False)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    said = logprobs_of(policy, buffer)
    merge(adapter, {})
    assert policy.state_dict().keys() == plain.keys()
    torch.testing.assert_close(logprobs_of(policy, buffer), said, atol=1e-4, rtol=1e-4)
    assert all(parameter.requires_grad for parameter in policy.parameters())


def test_adapters_alone_are_trained_and_learn(tmp_path):
    policy, watch = tiny_policy(), Watch()
    value = value_from_policy(policy)
    before, buffer = weights(policy), make_buffer(policy, questions=16)
    start = good_share(policy, buffer)
    rl = replace(RL, lora=ADAPTER, ppo_epochs=6, lr=3e-2, kl_coef=0.0)
    figures = train(policy, buffer, tmp_path, rl, value=value, callbacks=[watch])
    trained = set().union(*(gradients.keys() for gradients in watch.gradients))
    assert all("lora_" in name or name.startswith("value.v_head") for name in trained)
    assert any("policy" in name for name in trained)
    after = weights(policy)
    assert after.keys() == before.keys()
    assert not same(after, before)
    assert all(
        torch.equal(after[n], before[n]) for n in before if "norm" in n or "embed" in n or "shared" in n
    )
    assert good_share(policy, buffer) > start + 0.02
    assert figures["train/explained_variance"] > 0


def test_one_body_serves_both_and_learns(tmp_path):
    policy = tiny_policy()
    whole = value_from_policy(policy)
    head = SharedBackboneValue(policy, whole.v_head)
    assert {name.split(".")[0] for name, _ in head.named_parameters()} == {"v_head"}
    buffer, before = make_buffer(policy, questions=16), weights(policy)
    rl = replace(RL, value_warmup_epochs=20, share_trunk=True, global_batch_size=64, micro_batch_size=64)
    train(policy, buffer, tmp_path / "warm", replace(rl, ppo_epochs=0), value=head)
    assert same(weights(policy), before)
    figures = train(policy, buffer, tmp_path / "value", replace(rl, ppo_epochs=1, lr=1e-2), value=head)
    assert figures["train/explained_variance"] > 0.02
    policy.load_state_dict(before)
    start = good_share(policy, buffer)
    train(policy, buffer, tmp_path / "ppo", replace(RL, ppo_epochs=4, share_trunk=True), value=head)
    assert good_share(policy, buffer) > start
    take_trunk(whole, policy)
    inputs = model_inputs(buffer.batch(range(4), None))
    with torch.no_grad():
        torch.testing.assert_close(values(whole, *inputs), values(head, *inputs))
        states = policy.decoder_states(*inputs[:3], torch.nn.functional.pad(inputs[3], (1, 0))[:, :-1])
        torch.testing.assert_close(head.of_states(states, inputs[4]), values(head, *inputs))


@pytest.mark.parametrize("choice", [{"lora": ADAPTER}, {"share_trunk": True}])
def test_it_resumes_like_any_other(tmp_path, choice):
    def run(folder, epochs):
        policy = tiny_policy()
        value = value_from_policy(policy)
        head = SharedBackboneValue(policy, value.v_head) if "share_trunk" in choice else value
        rl = replace(RL, ppo_epochs=epochs, decay="constant", **choice)
        train(policy, make_buffer(tiny_policy()), folder, rl, value=head)
        return weights(policy)

    whole = run(tmp_path / "whole", 3)
    run(tmp_path / "cut", 2)
    assert same(run(tmp_path / "cut", 3), whole)
