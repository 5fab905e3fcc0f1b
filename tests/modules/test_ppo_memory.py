"""PPO with fewer weights in memory: on adapters, and with one backbone for policy and value."""

from dataclasses import replace

import pytest
import torch

from ares.config.schema import RlLoraConfig
from ares.models.adapters import merged_adapters
from ares.models.heads import SharedBackboneValue
from tests.support.number_vlm import number_vlm
from tests.support.policies import number_policy
from tests.support.ppo import (
    RL,
    TinyFeatures,
    Watch,
    good_probability,
    logprobs_of,
    make_buffer,
    new_value,
    same,
    train,
    weights,
)

ADAPTER = RlLoraConfig(r=4, alpha=8)


@torch.no_grad()
@pytest.mark.parametrize("features", [None, TinyFeatures()])
def test_a_merged_adapter_changes_the_policy_as_the_adapter_did(features) -> None:
    policy = number_policy(features=features)
    buffer, plain = make_buffer(policy), list(policy.state_dict())
    batch = buffer.batch(range(len(buffer)))
    expected = logprobs_of(policy, batch)
    torch.testing.assert_close(buffer.ref_logprobs, expected, atol=1e-5, rtol=1e-5)
    with merged_adapters([policy], r=4, alpha=8, targets="all", seed=0):
        torch.testing.assert_close(logprobs_of(policy, batch), expected)  # fresh adapters have no effect
        for name, parameter in policy.named_parameters():
            assert parameter.requires_grad == ("lora_" in name)
            if "lora_" in name:
                parameter.normal_(std=0.1)
        adapted = logprobs_of(policy, batch)
        assert (adapted - expected).abs().max() > 1e-3
    assert list(policy.state_dict()) == plain
    torch.testing.assert_close(logprobs_of(policy, batch), adapted, atol=1e-4, rtol=1e-4)
    fusion = [n for n, p in policy.named_parameters() if not p.requires_grad]
    assert not fusion


def test_rl_lora_trains_only_adapters_and_learns(tmp_path):
    policy, watch = number_policy(), Watch()
    value = new_value(policy)
    before, buffer = weights(policy), make_buffer(policy, questions=16)
    start = good_probability(policy, buffer)
    rl = replace(RL, lora=ADAPTER, ppo_epochs=6, lr=3e-2, kl_coef=0.0)
    metrics = train(policy, buffer, tmp_path, rl, value=value, callbacks=[watch])
    trained = set().union(*(gradients.keys() for gradients in watch.gradients))
    assert all("lora_" in name or name.startswith("value.model.v_head") for name in trained)
    assert any("policy" in name for name in trained)
    after = weights(policy)
    assert after.keys() == before.keys()
    assert not same(after, before)
    assert all(
        torch.equal(after[n], before[n]) for n in before if "norm" in n or "embed" in n or "shared" in n
    )
    assert good_probability(policy, buffer) > start + 0.02
    assert metrics["train/explained_variance"] > 0


def test_shared_backbone_learns_policy_and_value(tmp_path, tiny_policy):
    policy = tiny_policy()
    head = new_value(policy, shared=True)
    assert isinstance(head, SharedBackboneValue)
    assert {name.split(".")[0] for name, _ in head.named_parameters()} == {"head"}
    buffer, before = make_buffer(policy, questions=16), weights(policy)
    rl = replace(RL, value_warmup_epochs=20, share_trunk=True, global_batch_size=64, micro_batch_size=64)
    train(policy, buffer, tmp_path / "warm", replace(rl, ppo_epochs=0), value=head)
    assert same(weights(policy), before)
    metrics = train(policy, buffer, tmp_path / "value", replace(rl, ppo_epochs=1, lr=1e-2), value=head)
    assert metrics["train/explained_variance"] > 0.02
    with torch.no_grad():
        for name, weight in policy.trained():
            weight.copy_(before[name])
    start = good_probability(policy, buffer)
    train(policy, buffer, tmp_path / "ppo", replace(RL, ppo_epochs=4, share_trunk=True), value=head)
    assert good_probability(policy, buffer) > start


@pytest.mark.parametrize(
    ("build", "choice"),
    [
        (number_policy, {"lora": ADAPTER}),
        (number_policy, {"share_trunk": True}),
        (number_vlm, {"share_trunk": True}),
    ],
)
def test_memory_saving_fits_resume(tmp_path, build, choice):
    def run(folder, epochs):
        policy = build()
        head = new_value(policy, shared="share_trunk" in choice)
        rl = replace(RL, ppo_epochs=epochs, decay="constant", **choice)
        train(policy, make_buffer(build()), folder, rl, value=head)
        return weights(policy)

    complete = run(tmp_path / "complete", 3)
    run(tmp_path / "cut", 2)
    assert same(run(tmp_path / "cut", 3), complete)


def test_checkpoints_hold_only_what_is_trained(tmp_path):
    policy = number_vlm()
    value = new_value(policy)
    train(policy, make_buffer(policy), tmp_path, value=value)
    (path,) = tmp_path.rglob("last.ckpt")
    saved = torch.load(path, weights_only=False)["state_dict"]
    trained = [*policy.trained(), *value.trained()]
    assert len(saved) == len(trained)
    assert sum(tensor.numel() for tensor in saved.values()) == sum(weight.numel() for _, weight in trained)
