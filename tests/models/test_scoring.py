"""Log-probabilities of given responses."""

import pytest
import torch

from ares.models.logprobs import logprobs_of
from ares.models.scoring import response_logprobs
from ares.types import Example
from tests.support.policies import number_policy


def test_each_response_has_the_logprobs_of_its_own_prompt() -> None:
    """In the order of the responses, whatever is computed together."""
    policy, k = number_policy(), 3
    prompts = [
        Example(" ".join(str(2 + (i * j) % 13) for j in range(1 + i % 5)), "", str(i)) for i in range(15)
    ]
    responses = [[3 + (row * t) % 12 for t in range(1 + row % 7)] for row in range(len(prompts) * k)]
    found = response_logprobs(policy, policy.encode(prompts), responses, k)
    assert [len(values) for values in found] == [len(ids) for ids in responses]
    for row, ids in enumerate(responses):
        with torch.no_grad():
            expected = policy.token_logprobs(
                policy.encode([prompts[row // k]]), torch.tensor([ids]), [len(ids)]
            )
        assert found[row] == pytest.approx(expected[0].tolist(), abs=1e-5)
    assert response_logprobs(policy, policy.encode([]), [], k) == []


def test_logits_are_overwritten_by_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once and in parts, whose logits are computed again."""
    torch.manual_seed(0)
    layer, states = torch.nn.Linear(8, 50).double(), torch.randn(100, 8, dtype=torch.float64)
    tokens, slope = torch.randint(0, 50, (100,)), torch.randn(100, dtype=torch.float64)
    everything = layer(states).log_softmax(-1)
    expected = everything.gather(1, tokens[:, None]).squeeze(1)
    entropy = -(everything.exp() * everything).sum(-1).detach()
    slopes = torch.autograd.grad((expected * slope).sum(), list(layer.parameters()))
    for most in (2**20, 50 * 30):
        monkeypatch.setattr("ares.models.logprobs.MOST_LOGITS", most)
        found, spread = logprobs_of(layer, states[None], tokens[None], [100], vocabulary=50, entropy=True)
        torch.testing.assert_close(found[0], expected)
        torch.testing.assert_close(spread[0], entropy)
        loss = (found[0] * slope).sum()
        own = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=most > 50 * 30)
        torch.testing.assert_close(own, slopes)
        if most > 50 * 30:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                torch.autograd.grad(loss, list(layer.parameters()))
