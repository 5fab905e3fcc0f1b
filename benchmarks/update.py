"""One epoch of PPO over scored rollouts: the value model's pass over all rows, then the optimizer steps.

    python -m benchmarks update --policy t5

All sides start from the same weights and see the same rows, stored log-probabilities and rewards, four rationales per
question. `ours` is `PPOModule` in its trainer. `transformers` and `paper_path` are loops over plain transformers models:
see `Loop`. `paper_path` does a quarter of the questions, spread evenly over the lengths.
"""

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ares.config.schema import RlConfig
from ares.datamodules.buffer import RolloutBuffer
from ares.datamodules.rollouts import RolloutData
from ares.models.policy import Policy, Trainable, ValueModel
from ares.models.vlm.policy import VlmPolicy
from ares.modules.ppo_module import PPOModule
from ares.rl.advantages import gae
from ares.rl.kl import kl_penalty
from ares.rl.losses import ppo_loss
from ares.rl.masked import masked_mean, masked_whiten
from ares.rl.objectives import load_objective
from ares.storage.flat import flat_rollouts
from ares.types import Example, Rollout, Span
from benchmarks.baselines import alternate, build_policy, questions, responses, table

K, QUESTIONS, PAPER_PROMPT = 4, 8, 512
RL = RlConfig(
    ppo_epochs=1,
    value_warmup_epochs=0,
    global_batch_size=K * QUESTIONS,
    micro_batch_tokens=1200,
    holdout=0.0,
    warmup_fraction=0.0,
)


def main(args: argparse.Namespace) -> dict[str, float]:
    """Prints the table of one size and policy."""
    policy = build_policy(args.policy, args.size, device=args.device)
    value = policy.new_value(seed=0, shared=False)
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
    with tempfile.TemporaryDirectory() as folder:
        start = Start([policy, value], Path(folder))
        sides = {
            "paper_path": start.then(lambda: Loop(policy, value, buffer, paper=True).epoch(some)),
            "transformers": start.then(lambda: Loop(policy, value, buffer).epoch(range(len(buffer)))),
            "ours": start.then(lambda: ours(policy, value, data, args.device)),
        }
        measured = alternate(sides, device=args.device)
    return table(measured, {"paper_path": len(some), "transformers": len(buffer), "ours": len(buffer)})


def build_buffer(policy: Policy) -> RolloutBuffer:
    """Rollouts of real lengths with the policy's own log-probabilities and a score for each, at its end."""
    prompts, rows, scores = questions(policy, QUESTIONS), [], {}
    with torch.no_grad():
        for number, ids in enumerate(responses(K * QUESTIONS)):
            own, mask = prompts.select([number // K]), torch.ones(1, len(ids))
            found = policy.token_logprobs(
                own.to(policy.device), torch.tensor([ids]).to(policy.device), mask.to(policy.device)
            )
            logprobs = tuple(found[0].tolist())
            pid, end = f"p{number // K}", (len(ids) - 2,)
            row_id = f"{pid}/{number % K}"
            spans = (Span(0, 1),)
            rows.append(
                Rollout(row_id, pid, number % K, "a", tuple(ids), False, spans, end, logprobs, logprobs)
            )
            scores[row_id] = [(number * 37 % 100) / 100]
    examples = {row.pid: Example("", "", row.pid) for row in rows}
    policy.encode = lambda _: prompts  # type: ignore[method-assign]
    return RolloutBuffer(policy, examples, flat_rollouts(rows), scores, neutral=0.5, holdout=0.0)


class Start:
    """Puts the first weights back, from a file, so that no side pays for a copy in memory."""

    def __init__(self, models: Sequence[Trainable], folder: Path) -> None:
        self.models, self.file = models, folder / "weights.pt"
        torch.save([model.state_dict() for model in self.models], self.file)

    def then(self, run: Callable[[], object]) -> Callable[[], object]:
        """A function that puts the weights back and runs."""

        def both() -> object:
            self.restore()
            return run()

        return both

    def restore(self) -> None:
        """Puts the weights back."""
        states = torch.load(self.file, mmap=True, weights_only=True)
        for model, state in zip(self.models, states, strict=True):
            model.load_state_dict(state)
            model.zero_grad()


def ours(policy: Policy, value: ValueModel, data: RolloutData, device: str) -> float:
    """An epoch of the module, without checkpoints; its loss."""
    module = PPOModule(policy, value, data, RL, load_objective("ppo"))
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_epochs=1,
        accumulate_grad_batches=data.accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module.train()
    trainer.fit(module, data)
    policy.to(device)
    value.to(device)
    return module.metrics["train/loss"]


@dataclass
class Loop:
    """PPO over plain transformers models, as one writes it today.

    Values of all rows in length-sorted chunks of 32; then, in each optimizer step, micro-batches of 8 rows of similar
    length, padded to their longest, with the forward pass of each row's prompt. With `paper` as the original does: prompts
    padded to 512 tokens, rows unsorted, values in the same micro-batches, and the reference model in memory.
    """

    policy: Policy
    value: ValueModel
    buffer: RolloutBuffer
    paper: bool = False

    def epoch(self, rows: Sequence[int]) -> float:
        """Trains on the rows; the last step's loss."""
        reference = copy.deepcopy(self.policy) if self.paper else None
        rows = list(rows)
        advantages, returns, old = self.targets(rows)
        groups = [{"params": [w for _, w in model.trained()]} for model in (self.policy, self.value)]
        optimizer = torch.optim.AdamW(groups, lr=RL.lr, eps=RL.adam_eps, fused=not self.paper)
        loss = self.step(rows, advantages, returns, old)
        for group in groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        del reference
        return loss

    def parts(self, rows: Sequence[int], size: int) -> Iterator[list[int]]:
        """Micro-batches."""
        order = rows if self.paper else sorted(rows, key=lambda row: self.buffer.lengths[row])
        for first in range(0, len(order), size):
            yield list(order[first : first + size])

    @torch.no_grad()
    def targets(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Whitened advantages, returns and values (n,) of the buffer's tokens."""
        found = [torch.zeros_like(self.buffer.rewards) for _ in range(3)]
        real = torch.zeros_like(self.buffer.rewards)
        for part in self.parts(rows, 8 if self.paper else 32):
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
        for part in self.parts(rows, 8):
            batch = self.buffer.batch(part)
            places, mask, ids = batch["places"], batch["response_mask"], batch["response_ids"]
            logprobs, _ = self.logprobs(self.inputs(part), ids)
            targets = [(flat[places] * mask).to(logprobs.device) for flat in (old, advantages, returns)]
            stored = [batch[name].to(logprobs.device) for name in ("old_logprobs", "ref_logprobs")]
            mask = mask.to(logprobs.device)
            values = self.values(self.inputs(part), ids)
            loss, _ = ppo_loss(
                logprobs, values, stored[0], *targets, mask, clip_range=0.2, vf_coef=1.0, denominator=tokens
            )
            penalty = kl_penalty(logprobs, stored[1], mask, estimator="k3")
            loss = loss + RL.kl_coef * masked_mean(penalty, mask, denominator=tokens)
            loss.backward()
            total += float(loss.detach())
        return total

    def inputs(self, rows: Sequence[int]) -> dict[str, Any]:
        """The prompts of rows as tensors: a T5's padded on the right, a VLM's on the left."""
        chosen = self.buffer.inputs.select([self.buffer.question[row] for row in rows]).to(self.policy.device)
        if isinstance(self.policy, VlmPolicy):
            batch = chosen.prompts()  # type: ignore[attr-defined]
            missing = PAPER_PROMPT - batch["input_ids"].shape[1] if self.paper else 0
            tokens = {name: F.pad(batch[name], (missing, 0)) for name in ("input_ids", "attention_mask")}
            return {**batch, **tokens}
        ids, mask, images = chosen.tensors  # type: ignore[attr-defined]
        missing = PAPER_PROMPT - ids.shape[1] if self.paper else 0
        ids, mask = F.pad(ids, (0, missing)), F.pad(mask, (0, missing))
        return {"input_ids": ids, "attention_mask": mask, "image_features": images}

    def logprobs(self, inputs: dict[str, Any], ids: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T) of responses (B, T), and the entropy of each."""
        ids = ids.to(self.policy.device)
        if isinstance(self.policy, VlmPolicy):
            batch = self.followed(inputs, ids)
            logits = self.policy.model(**batch, logits_to_keep=ids.shape[1] + 1).logits[:, :-1]
        else:
            logits = self.policy.model(**inputs, decoder_input_ids=F.pad(ids, (1, 0))[:, :-1]).logits
        logprobs = logits.log_softmax(-1)
        with torch.no_grad():
            entropy = -(logprobs.exp() * logprobs).sum(-1)
        return logprobs.gather(-1, ids[..., None]).squeeze(-1), entropy

    def values(self, inputs: dict[str, Any], ids: Tensor) -> Tensor:
        """Values (B, T) of the states before each response token."""
        ids = ids.to(self.policy.device)
        if isinstance(self.policy, VlmPolicy):
            hidden = self.value.model.model(**self.followed(inputs, ids)).last_hidden_state
            first = inputs["input_ids"].shape[1] - 1
            return self.value.head(hidden[:, first:-1]).squeeze(-1)  # type: ignore[operator]
        return self.value.model(**inputs, decoder_input_ids=F.pad(ids, (1, 0))[:, :-1])

    def followed(self, inputs: dict[str, Any], ids: Tensor) -> dict[str, Any]:
        """Prompts followed by responses."""
        mask = torch.cat([inputs["attention_mask"], torch.ones_like(ids)], dim=1)
        return {**inputs, "input_ids": torch.cat([inputs["input_ids"], ids], dim=1), "attention_mask": mask}
