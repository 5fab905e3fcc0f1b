"""One epoch of DPO over pairs of rollouts: the optimizer steps and, where they are not known, the reference's log-probabilities.

    python -m benchmarks prefer --policy t5

All sides start from the same weights and see the same pairs, one per question; a row is a pair. `ours` trains with
`PreferenceModule` on what `rollout` has written, the log-probabilities that came with the samples; `brought` scores the
responses first, as `pairs` does with others. `transformers` scores length-sorted chunks of 32 responses, and trains on
micro-batches of 4 pairs of similar length, both responses in one pass. `paper_path` does what the original's PPO does: prompts
padded to 512 tokens, pairs unsorted, a pass for each side, and a reference model in memory, which is asked in each
micro-batch.
"""

import argparse
import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ares.config.preference import PreferConfig
from ares.datamodules.pairs import PairBuffer, PairData
from ares.models.inputs import Inputs
from ares.models.policy import Policy
from ares.models.scoring import response_logprobs
from ares.modules.preference_module import PreferenceModule
from ares.rl.masked import pad_right
from ares.rl.preference import dpo_loss
from ares.types import Example, Pair, Side
from benchmarks.baselines import Start, bare_trainer, build_policy, questions, responses
from benchmarks.plain import Plain, in_parts, of_tokens, stock
from benchmarks.turns import alternate, table

PAIRS = 16
DPO = PreferConfig(
    global_batch_size=PAIRS, micro_batch_tokens=1200, warmup_fraction=0.0, holdout=0.0, weight_decay=0.01
)


def main(args: argparse.Namespace) -> dict[str, float]:
    """Prints the table of one size and policy."""
    policy = build_policy(args.policy, args.size, device=args.device)
    prompts, ids = questions(policy, PAIRS), responses(2 * PAIRS)
    policy.encode = lambda examples: prompts  # type: ignore[method-assign]
    known = response_logprobs(policy, prompts, ids, 2)
    plain = stock(policy.model)
    with tempfile.TemporaryDirectory() as folder:
        start = Start([policy], Path(folder))
        sides = {
            "paper_path": start.then(plain(lambda: Loop(policy, prompts, ids, paper=True).epoch())),
            "transformers": start.then(plain(lambda: Loop(policy, prompts, ids).epoch())),
            "brought": start.then(lambda: ours(policy, prompts, ids, args.device)),
            "ours": start.then(lambda: ours(policy, prompts, ids, args.device, known)),
        }
        measured = alternate(sides, device=args.device, limit=args.seconds)
    return table(measured, dict.fromkeys(sides, PAIRS))


def ours(
    policy: Policy,
    prompts: Inputs,
    ids: Sequence[list[int]],
    device: str,
    known: Sequence[list[float]] | None = None,
) -> float:
    """The reference's log-probabilities, if they are not known, and an epoch of the module, without checkpoints; its loss."""
    known = known or response_logprobs(policy, prompts, ids, 2)
    sides = [Side("", tuple(own), (), (), None, tuple(found)) for own, found in zip(ids, known, strict=True)]
    pairs = [Pair(f"p{n}", f"p{n}", "brought", sides[2 * n], sides[2 * n + 1]) for n in range(PAIRS)]
    buffer = PairBuffer(policy, {pair.pid: Example("", "", pair.pid) for pair in pairs}, pairs)
    data = PairData(buffer, global_batch=PAIRS, micro=4, world=1, seed=0, micro_tokens=DPO.micro_batch_tokens)
    module = PreferenceModule(policy, data, DPO)
    bare_trainer(device, accumulate_grad_batches=data.accumulate).fit(module.train(), data)
    return module.metrics["train/loss"]


@dataclass
class Loop:
    """DPO over a plain transformers model."""

    policy: Policy
    prompts: Inputs
    ids: Sequence[list[int]]  # the chosen and the rejected response of each pair
    paper: bool = False

    @property
    def plain(self) -> Plain:
        """The forward passes of the policy."""
        return Plain(self.policy, self.prompts, self.paper)

    def epoch(self) -> float:
        """Trains on all pairs in one optimizer step; its loss."""
        weights = [weight for _, weight in self.policy.trained()]
        optimizer = torch.optim.AdamW(weights, lr=DPO.lr, fused=not self.paper)
        reference = copy.deepcopy(self.policy.model) if self.paper else None
        known = {} if self.paper else self.scores()
        total, lengths = 0.0, [len(a) + len(b) for a, b in zip(self.ids[::2], self.ids[1::2], strict=True)]
        for part in in_parts(range(PAIRS), lengths, 4, paper=self.paper):
            sides = [[2 * pair for pair in part], [2 * pair + 1 for pair in part]]
            if reference is None:
                found = self.sums([*sides[0], *sides[1]])
                own = found.chunk(2)
                old = [torch.stack([known[row] for row in side]) for side in sides]
            else:
                own = tuple(self.sums(side) for side in sides)
                with torch.no_grad():
                    old = [self.sums(side, reference) for side in sides]
            loss = dpo_loss(*own, *old, beta=DPO.beta).sum() / PAIRS
            loss.backward()
            total += float(loss.detach())
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return total

    @torch.no_grad()
    def scores(self) -> dict[int, Tensor]:
        """The summed log-probability of each response, in chunks of 32 of similar length."""
        found: dict[int, Tensor] = {}
        for part in in_parts(range(2 * PAIRS), [len(own) for own in self.ids], 32, paper=False):
            found |= dict(zip(part, self.sums(part), strict=True))
        return found

    def sums(self, rows: Sequence[int], model: nn.Module | None = None) -> Tensor:
        """The summed log-probabilities (B,) of responses under the policy or `model`."""
        ids = pad_right([self.ids[row] for row in rows], 0)
        mask = pad_right([[1.0] * len(self.ids[row]) for row in rows], 0.0).to(self.policy.device)
        inputs = self.plain.inputs([row // 2 for row in rows])
        return (of_tokens(self.plain.logprobs(inputs, ids, model), ids) * mask).sum(1)
