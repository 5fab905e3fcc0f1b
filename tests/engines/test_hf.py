"""Greedy responses: order, batches and ranks."""

from ares.engines import hf
from ares.types import Example
from tests.support.policies import EOS, number_policy

EXAMPLES = {f"p{n}": Example(" ".join(["5"] * (1 + 7 * n % 6)), "", f"p{n}") for n in range(7)}


def responses(batch_size: int):
    return hf.greedy_responses(
        number_policy(), EXAMPLES, max_new_tokens=4, batch_size=batch_size, label="test"
    )


def test_responses_keep_the_order_of_the_examples_for_every_batch_size() -> None:
    found = responses(3)
    assert [response.pid for response in found] == list(EXAMPLES)
    assert found == responses(1) == responses(7)


def test_a_response_without_eos_is_truncated() -> None:
    for response in responses(7):
        assert response.truncated == (EOS not in response.token_ids)
        assert response.text == " ".join(str(token) for token in response.token_ids if token > 2)
