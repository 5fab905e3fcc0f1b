"""Text written by a policy in this process; the ranks of a step share the work."""

from collections.abc import Mapping, Sequence

from ares.console import tqdm
from ares.engines.base import Engine, EngineJob
from ares.models.inputs import Sample, Sampling
from ares.models.policy import Policy
from ares.ranks import gather, is_first, shard
from ares.types import Example, Response


class HfEngine(Engine):
    """The policy itself, which has `job.batch_size` prompts in progress at once."""

    def __init__(self, policy: Policy, job: EngineJob) -> None:
        self.policy, self.batch_size = policy, job.batch_size

    def sample(
        self, examples: Sequence[Example], *, k: int, seed: int, sampling: Sampling, max_new_tokens: int
    ) -> list[Sample]:
        """k samples per example; each image and prompt is encoded once for all of them."""
        return self.policy.sample(
            self.policy.encode(examples),
            k=k,
            max_new_tokens=max_new_tokens,
            seed=seed,
            sampling=sampling,
            slots=k * self.batch_size,
        )

    def greedy(self, examples: Mapping[str, Example], *, max_new_tokens: int, label: str) -> list[Response]:
        """See `greedy_responses`."""
        return greedy_responses(
            self.policy, examples, max_new_tokens=max_new_tokens, batch_size=self.batch_size, label=label
        )


def greedy_responses(
    policy: Policy, examples: Mapping[str, Example], *, max_new_tokens: int, batch_size: int, label: str
) -> list[Response]:
    """A greedy response to each example, in their order; `batch_size` of them are in progress at once.

    Ranks share the examples, each with prompts of all lengths, and each returns all responses.
    """
    pids = list(examples)
    inputs = policy.encode(list(examples.values()))
    rows = shard(sorted(range(len(pids)), key=inputs.lengths.__getitem__))
    with tqdm(total=len(rows), desc=label, dynamic_ncols=True, disable=not is_first()) as bar:
        responses = policy.greedy(
            inputs.select(rows), max_new_tokens=max_new_tokens, slots=batch_size, finished=bar.update
        )
    written = {
        pids[row]: Response(pids[row], policy.decode(ids), tuple(ids), policy.is_truncated(ids))
        for row, ids in zip(rows, responses, strict=True)
    }
    found = {pid: response for part in gather(written) for pid, response in part.items()}
    return [found[pid] for pid in pids]
