"""Text written by a policy in this process; the ranks of a step share the work."""

from collections.abc import Mapping, Sequence

import torch

from ares.console import tqdm
from ares.engines.base import Engine, EngineJob, Sample
from ares.models.inputs import Sampling
from ares.models.policy import Policy
from ares.ranks import gather, is_first, shard
from ares.types import Example, Response


class HfEngine(Engine):
    """The policy itself, `job.batch_size` prompts at a time."""

    def __init__(self, policy: Policy, job: EngineJob) -> None:
        self.policy, self.batch_size = policy, job.batch_size

    def sample(
        self, examples: Sequence[Example], *, k: int, seed: int, sampling: Sampling, max_new_tokens: int
    ) -> list[Sample]:
        """k samples per example; each image and prompt is encoded once for all of them."""
        generator = torch.Generator(self.policy.device)
        generator.manual_seed(seed)
        found: list[Sample] = []
        for start in range(0, len(examples), self.batch_size):
            responses = self.policy.sample(
                self.policy.encode(examples[start : start + self.batch_size]),
                k=k,
                max_new_tokens=max_new_tokens,
                generator=generator,
                sampling=sampling,
            )
            found += map(Sample, responses)
        return found

    def greedy(self, examples: Mapping[str, Example], *, max_new_tokens: int, label: str) -> list[Response]:
        """See `greedy_responses`."""
        return greedy_responses(
            self.policy, examples, max_new_tokens=max_new_tokens, batch_size=self.batch_size, label=label
        )


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
