"""Text written by a policy in this process; the ranks of a step share the work."""

from collections.abc import Mapping

from tqdm import tqdm

from ares.models.policy import Policy
from ares.ranks import gather, shard
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
    written = []
    for rows in tqdm(shard(batches), desc=label, dynamic_ncols=True):
        for row, ids in zip(
            rows, policy.greedy(inputs.select(rows), max_new_tokens=max_new_tokens), strict=True
        ):
            written.append((pids[row], policy.decode(ids), ids, policy.is_truncated(ids)))
    found = {
        pid: Response(pid, text, tuple(ids), truncated)
        for part in gather(written)
        for pid, text, ids, truncated in part
    }
    return [found[pid] for pid in pids]
