"""Log-probabilities of given responses, computed with little padding."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ares.models.inputs import Inputs
from ares.models.policy import Policy
from ares.models.transfer import sent
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
    parts: list[tuple[list[int], Tensor]] = []
    tokens = [sum(len(ids) for ids in responses[row : row + k]) for row in range(0, len(responses), k)]
    order = sorted(range(len(tokens)), key=lambda prompt: (tokens[prompt], prompt))
    size = max(1, _ROWS // k)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        rows = [prompt * k + sample for prompt in chosen for sample in range(k)]
        ids = sent(pad_right([responses[row] for row in rows], policy.pad_id), policy.device)
        prompts = inputs.select(chosen).repeat(k).to(policy.device)
        parts.append((rows, policy.token_logprobs(prompts, ids, [len(responses[row]) for row in rows])))
    # Read at last: until then a GPU computes one part after another, and nobody waits for it.
    found = {row: values for rows, part in parts for row, values in zip(rows, part.tolist(), strict=True)}
    return [found[row][: len(ids)] for row, ids in enumerate(responses)]
