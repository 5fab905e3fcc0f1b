"""Fine-tuning on rationales: optimizer steps of 8 rows with dropout 0.1.

    python -m benchmarks sft --policy t5

All sides start from the same weights and see the same rows. `ours` is `SupervisedModule` in its trainer, without
validation. `transformers` is a loop over a plain transformers model, as one writes it with its Trainer: batches grouped by
the length of the prompt, padded to their longest, the loss by `labels`. `paper_path` does what the original does: prompts
and targets padded to 512 tokens, rows shuffled; it does a quarter of the rows, spread evenly over the lengths.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ares.config.schema import FitConfig
from ares.datamodules.supervised import Encoded, SupervisedData
from ares.models.inputs import Inputs
from ares.models.policy import Policy
from ares.models.vlm.policy import VlmPolicy
from ares.modules.supervised import SupervisedModule
from ares.rl.masked import pad_right
from benchmarks.baselines import Start, bare_trainer, build_policy, questions, responses
from benchmarks.plain import stock
from benchmarks.turns import alternate, table

ROWS, STEP, PAPER = 32, 8, 512
FIT = FitConfig(epochs=1, global_batch_size=STEP, micro_batch_size=STEP)


def main(args: argparse.Namespace) -> dict[str, float]:
    """Prints the table of one size and policy."""
    policy = build_policy(args.policy, args.size, device=args.device)
    for module in policy.modules():
        if isinstance(module, nn.Dropout):
            module.p = FIT.dropout
    prompts, targets = questions(policy, ROWS), responses(ROWS)
    lengths = prompts.lengths
    order = sorted(range(ROWS), key=lambda row: lengths[row] + len(targets[row]))
    some = [order[place] for place in range(1, ROWS, 4)]
    plain = stock(policy.model)
    with tempfile.TemporaryDirectory() as folder:
        start = Start([policy], Path(folder))
        sides = {
            "paper_path": start.then(plain(lambda: loop(policy, prompts, targets, [some], paper=True))),
            "transformers": start.then(plain(lambda: loop(policy, prompts, targets, grouped(lengths)))),
            "ours": start.then(lambda: ours(policy, Encoded(prompts, targets), args.device)),
        }
        measured = alternate(sides, device=args.device, limit=args.seconds)
    return table(measured, {"paper_path": len(some), "transformers": ROWS, "ours": ROWS})


def grouped(lengths: Sequence[int]) -> list[list[int]]:
    """Batches of rows with prompts of similar length."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[first : first + STEP] for first in range(0, len(order), STEP)]


def ours(policy: Policy, train: Encoded, device: str) -> None:
    """An epoch of the module, without checkpoints and validation."""
    data = SupervisedData(pad_id=policy.pad_id, micro=STEP, accumulate=1, eval_batch=STEP, seed=0)
    data.train = train
    module = SupervisedModule(
        policy, FIT, total_steps=ROWS // STEP, score=lambda *_: 0.0, metric="none", block="sft"
    )
    bare_trainer(device).fit(module, data)


def loop(
    policy: Policy,
    prompts: Inputs,
    targets: Sequence[Sequence[int]],
    steps: Sequence[Sequence[int]],
    *,
    paper: bool = False,
) -> None:
    """One optimizer step per batch of rows, over the plain network."""
    weights = [weight for _, weight in policy.trained()]
    optimizer = torch.optim.AdamW(weights, lr=FIT.lr, fused=not paper)
    policy.train()
    for rows in steps:
        labels = pad_right([targets[row] for row in rows], -100)
        if paper:
            labels = F.pad(labels, (0, PAPER - labels.shape[1]), value=-100)
        chosen = prompts.select(rows).to(policy.device)
        policy.model(**inputs_of(policy, chosen, labels.to(policy.device), paper)).loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()


def inputs_of(policy: Policy, chosen: Any, labels: Tensor, paper: bool) -> dict[str, Any]:
    """The arguments of a network's forward pass with its loss; a VLM's targets follow its prompts in one row."""
    if isinstance(policy, VlmPolicy):
        batch = chosen.prompts()
        missing = PAPER - batch["input_ids"].shape[1] if paper else 0
        ids, mask = (F.pad(batch[name], (missing, 0)) for name in ("input_ids", "attention_mask"))
        none = torch.full_like(ids, -100)
        return {
            **batch,
            "input_ids": torch.cat([ids, labels.clamp(min=0)], dim=1),
            "attention_mask": torch.cat([mask, (labels >= 0).long()], dim=1),
            "labels": torch.cat([none, labels], dim=1),
        }
    ids, mask, images = chosen.tensors
    missing = PAPER - ids.shape[1] if paper else 0
    ids, mask = F.pad(ids, (0, missing)), F.pad(mask, (0, missing))
    return {"input_ids": ids, "attention_mask": mask, "image_features": images, "labels": labels}
