"""Log-probabilities of given responses, computed with little padding."""

from collections.abc import Sequence

import torch

from ares.models.inputs import Inputs
from ares.models.policy import Policy
from ares.rl.masked import pad_right

_ROWS = 32


@torch.no_grad()
def response_logprobs(
    policy: Policy, inputs: Inputs, responses: Sequence[Sequence[int]], k: int
) -> list[list[float]]:
    """Log-probabilities (nats) of the tokens of each response; response i·k + j is to prompt i.

    Responses of similar length are computed together, so that the result does not depend on their order.
    """
    found: list[list[float]] = [[] for _ in responses]
    order = sorted(range(len(responses)), key=lambda row: (len(responses[row]), row))
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        prompts = inputs.select([row // k for row in rows]).to(policy.device)
        ids = pad_right([responses[row] for row in rows], policy.pad_id).to(policy.device)
        mask = pad_right([[1.0] * len(responses[row]) for row in rows], 0.0).to(policy.device)
        for row, values in zip(rows, policy.token_logprobs(prompts, ids, mask).tolist(), strict=True):
            found[row] = values[: len(responses[row])]
    return found
