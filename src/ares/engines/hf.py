"""Text written by a policy in this process; the ranks of a step share the work."""

from collections.abc import Mapping

from tqdm import tqdm

from ares.models.policy import Policy
from ares.ranks import gather, is_first, shard
from ares.types import Example, Response


def greedy_responses(
    policy: Policy, examples: Mapping[str, Example], *, max_new_tokens: int, batch_size: int, label: str
) -> list[Response]:
    """A greedy response to each example, in their order; batches group prompts of similar length.

    Ranks share the batches, and each returns all responses.
    """
    pids = list(examples)
    inputs = policy.encode(list(examples.values()))
    order = sorted(range(len(pids)), key=inputs.lengths.__getitem__)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    written: dict[str, Response] = {}
    for rows in tqdm(shard(batches), desc=label, dynamic_ncols=True, disable=not is_first()):
        responses = policy.greedy(inputs.select(rows), max_new_tokens=max_new_tokens)
        for row, ids in zip(rows, responses, strict=True):
            text, truncated = policy.decode(ids), policy.is_truncated(ids)
            written[pids[row]] = Response(pids[row], text, tuple(ids), truncated)
    found = {pid: response for part in gather(written) for pid, response in part.items()}
    return [found[pid] for pid in pids]
