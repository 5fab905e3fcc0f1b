"""Log-probabilities of given responses."""

import pytest
import torch

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
                policy.encode([prompts[row // k]]), torch.tensor([ids]), torch.ones(1, len(ids))
            )
        assert found[row] == pytest.approx(expected[0].tolist(), abs=1e-5)
    assert response_logprobs(policy, policy.encode([]), [], k) == []
