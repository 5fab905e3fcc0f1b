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

    The responses to a prompt are computed together, so that it is read once, next to those of prompts whose responses
    have as many tokens.
    """
    found: list[list[float]] = [[] for _ in responses]
    tokens = [sum(len(ids) for ids in responses[row : row + k]) for row in range(0, len(responses), k)]
    order = sorted(range(len(tokens)), key=lambda prompt: (tokens[prompt], prompt))
    size = max(1, _ROWS // k)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        rows = [prompt * k + sample for prompt in chosen for sample in range(k)]
        ids = pad_right([responses[row] for row in rows], policy.pad_id).to(policy.device)
        mask = pad_right([[1.0] * len(responses[row]) for row in rows], 0.0).to(policy.device)
        prompts = inputs.select(chosen).repeat(k).to(policy.device)
        for row, values in zip(rows, policy.token_logprobs(prompts, ids, mask).tolist(), strict=True):
            found[row] = values[: len(responses[row])]
    return found
