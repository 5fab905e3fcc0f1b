"""One epoch of RL over scored rollouts: the value model's pass over all rows, if there is one, then the optimizer steps.

    python -m benchmarks update --policy t5 --objective ppo

All sides start from the same weights and see the same rows, stored log-probabilities and rewards, four rationales per
question. `ours` is `PPOModule` in its trainer. `transformers` and `paper_path` are loops over plain transformers models:
see `Loop`. `paper_path` does a quarter of the questions, spread evenly over the lengths.
"""

import argparse
import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ares.config.schema import RlConfig
from ares.datamodules.buffer import RolloutBuffer
from ares.datamodules.rollouts import RolloutData
from ares.models.policy import Policy, ValueModel
from ares.models.trainable import Trainable
from ares.models.vlm.policy import VlmPolicy
from ares.modules.ppo_module import PPOModule
from ares.modules.targets import epoch_targets
from ares.rl.advantages import gae
from ares.rl.kl import kl_penalty
from ares.rl.losses import ppo_loss
from ares.rl.masked import masked_mean, masked_whiten
from ares.rl.objectives import Objective, load_objective
from ares.storage.flat import flat_rollouts
from ares.types import Example, Rollout, Span
from benchmarks.baselines import Start, bare_trainer, build_policy, questions, responses
from benchmarks.plain import Plain, followed, in_parts, of_tokens, stock
from benchmarks.turns import alternate, table

K, QUESTIONS = 4, 8
RL = RlConfig(
    ppo_epochs=1,
    value_warmup_epochs=0,
    global_batch_size=K * QUESTIONS,
    micro_batch_tokens=800,
    holdout=0.0,
    warmup_fraction=0.0,
)


def main(args: argparse.Namespace) -> dict[str, float]:
    """Prints the table of one size and policy."""
    policy = build_policy(args.policy, args.size, device=args.device)
    objective = load_objective(args.objective)
    value = policy.new_value(seed=0, shared=False) if objective.needs_value else None
    models: list[Trainable] = [policy] if value is None else [policy, value]
    buffer = build_buffer(policy)
    data = RolloutData(
        buffer,
        global_batch=RL.global_batch_size,
        micro=8,
        world=1,
        seed=0,
        micro_tokens=RL.micro_batch_tokens,
    )
    order = sorted(buffer.groups(), key=lambda rows: sum(buffer.lengths[row] for row in rows))
    some = [row for rows in order[1::4] for row in rows]
    plain = stock(*(model.model for model in models))
    with tempfile.TemporaryDirectory() as folder:
        start = Start(models, Path(folder))
        paper, loop = (Loop(policy, value, buffer, objective, paper=paper) for paper in (True, False))
        sides = {
            "paper_path": start.then(plain(lambda: paper.epoch(some))),
            "transformers": start.then(plain(lambda: loop.epoch(range(len(buffer))))),
            "ours": start.then(lambda: ours(policy, value, data, objective, args.device)),
        }
        measured = alternate(sides, device=args.device, limit=args.seconds)
    return table(measured, {"paper_path": len(some), "transformers": len(buffer), "ours": len(buffer)})


def build_buffer(policy: Policy) -> RolloutBuffer:
    """Rollouts of real lengths with the policy's own log-probabilities and a score for each, at its end."""
    prompts, rows, scores = questions(policy, QUESTIONS), [], {}
    with torch.no_grad():
        for number, ids in enumerate(responses(K * QUESTIONS)):
            own = prompts.select([number // K]).to(policy.device)
            found = policy.token_logprobs(own, torch.tensor([ids], device=policy.device), [len(ids)])
            logprobs = tuple(found[0].tolist())
            pid, end = f"p{number // K}", (len(ids) - 2,)
            row_id = f"{pid}/{number % K}"
            spans = (Span(0, 1),)
            rows.append(
                Rollout(row_id, pid, number % K, "a", tuple(ids), False, spans, end, logprobs, logprobs)
            )
            scores[row_id] = [(number * 37 % 100) / 100]
    examples = {row.pid: Example("", "", row.pid) for row in rows}
    policy.encode = lambda examples: prompts  # type: ignore[method-assign]
    return RolloutBuffer(policy, examples, flat_rollouts(rows), scores, neutral=0.5, holdout=0.0)


def ours(
    policy: Policy, value: ValueModel | None, data: RolloutData, objective: Objective, device: str
) -> float:
    """An epoch of the module, without checkpoints; its loss."""
    module = PPOModule(policy, value, data, RL, objective)
    trainer = bare_trainer(device, accumulate_grad_batches=data.accumulate)
    module.train()
    trainer.fit(module, data)
    return module.metrics["train/loss"]


@dataclass
class Loop:
    """RL over plain transformers models, as one writes it today.

    Values of all rows, where there is a value model, in length-sorted chunks of 32; then, in each optimizer step, micro-batches of 8 rows of similar
    length, padded to their longest, with the forward pass of each row's prompt. With `paper` as the original does: prompts
    padded to 512 tokens, rows unsorted, values in the same micro-batches, and the reference model in memory.
    """

    policy: Policy
    value: ValueModel | None
    buffer: RolloutBuffer
    objective: Objective
    paper: bool = False

    @property
    def plain(self) -> Plain:
        """The forward passes of the policy."""
        return Plain(self.policy, self.buffer.inputs, self.paper)

    def epoch(self, rows: Sequence[int]) -> float:
        """Trains on the rows; the last step's loss."""
        reference = copy.deepcopy(self.policy) if self.paper else None
        rows = list(rows)
        advantages, returns, old = self.targets(rows)
        models = [model for model in (self.policy, self.value) if model is not None]
        groups = [{"params": [weight for _, weight in model.trained()]} for model in models]
        optimizer = torch.optim.AdamW(groups, lr=RL.lr, eps=RL.adam_eps, fused=not self.paper)
        loss = self.step(rows, advantages, returns, old)
        for group in groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        del reference
        return loss

    @torch.no_grad()
    def targets(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Advantages, whitened where a value model estimates them, returns and values (n,) of the buffer's tokens."""
        if self.value is None:
            none = torch.zeros_like(self.buffer.rewards)
            return *epoch_targets(self.objective, self.buffer, self.buffer.rewards, none, RL), none
        found = [torch.zeros_like(self.buffer.rewards) for _ in range(3)]
        real = torch.zeros_like(self.buffer.rewards)
        for part in in_parts(rows, self.buffer.lengths, 8 if self.paper else 32, paper=self.paper):
            batch = self.buffer.batch(part)
            mask = batch["response_mask"]
            values = self.values(self.inputs(part), batch["response_ids"]).cpu() * mask
            rewards = self.buffer.rewards[batch["places"]] * mask
            advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=0.95)
            places = batch["places"][mask.bool()]
            for flat, padded in zip(found, (advantages, returns, values), strict=True):
                flat[places] = padded[mask.bool()]
            real[places] = 1.0
        return masked_whiten(found[0], real), found[1], found[2]

    def step(self, rows: Sequence[int], advantages: Tensor, returns: Tensor, old: Tensor) -> float:
        """The gradients of one optimizer batch."""
        tokens, total = sum(self.buffer.lengths[row] for row in rows), 0.0
        for part in in_parts(rows, self.buffer.lengths, 8, paper=self.paper):
            batch = self.buffer.batch(part)
            places, mask, ids = batch["places"], batch["response_mask"], batch["response_ids"]
            logprobs, _ = self.logprobs(self.inputs(part), ids)
            before, gains, sums = (
                (flat[places] * mask).to(logprobs.device) for flat in (old, advantages, returns)
            )
            stored = [batch[name].to(logprobs.device) for name in ("old_logprobs", "ref_logprobs")]
            mask = mask.to(logprobs.device)
            values = before if self.value is None else self.values(self.inputs(part), ids)
            weight = 0.0 if self.value is None else 1.0
            loss, _ = ppo_loss(
                logprobs,
                values,
                stored[0],
                before,
                gains,
                sums,
                mask,
                clip_range=0.2,
                vf_coef=weight,
                denominator=tokens,
            )
            penalty = kl_penalty(logprobs, stored[1], mask, estimator="k3")
            loss = loss + RL.kl_coef * masked_mean(penalty, mask, denominator=tokens)
            loss.backward()
            total += float(loss.detach())
        return total

    def inputs(self, rows: Sequence[int]) -> dict[str, Any]:
        """The prompts of rows as tensors."""
        return self.plain.inputs([self.buffer.question[row] for row in rows])

    def logprobs(self, inputs: dict[str, Any], ids: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T) of responses (B, T), and the entropy of each."""
        logprobs = self.plain.logprobs(inputs, ids)
        with torch.no_grad():
            entropy = -(logprobs.exp() * logprobs).sum(-1)
        return of_tokens(logprobs, ids), entropy

    def values(self, inputs: dict[str, Any], ids: Tensor) -> Tensor:
        """Values (B, T) of the states before each response token."""
        assert self.value is not None
        ids = ids.to(self.policy.device)
        if isinstance(self.policy, VlmPolicy):
            hidden = self.value.model.model(**followed(inputs, ids)).last_hidden_state
            first = inputs["input_ids"].shape[1] - 1
            return self.value.head(hidden[:, first:-1]).squeeze(-1)  # type: ignore[operator]
        return self.value.model(**inputs, decoder_input_ids=F.pad(ids, (1, 0))[:, :-1])
