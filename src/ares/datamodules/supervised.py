"""Prompts and targets in length-bucketed batches of fixed optimizer steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ares.datamodules.resuming import RemainingBatches
from ares.models.inputs import Inputs
from ares.models.policy import Policy
from ares.ranks import shard, world_size
from ares.rl.masked import pad_right
from ares.types import Example


@dataclass(frozen=True)
class Encoded:
    """Examples as a policy reads them: their prompts, and their targets as ids that end with EOS."""

    inputs: Inputs
    targets: list[list[int]]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> list[int]:
        """Tokens of prompt and target of each example."""
        return [a + len(b) for a, b in zip(self.inputs.lengths, self.targets, strict=True)]


class SupervisedBatch(TypedDict):
    """B prompts and their targets (B, T); `denominator`: target tokens of the optimizer batch, on all ranks."""

    inputs: Inputs
    response_ids: Tensor
    response_mask: Tensor
    denominator: int


def encode(policy: Policy, examples: Sequence[Example], *, max_output_tokens: int) -> Encoded:
    """Examples as the policy reads them."""
    return Encoded(policy.encode(examples), policy.encode_targets(examples, max_tokens=max_output_tokens))


def bucketed_batches(
    lengths: Sequence[int], *, micro: int, accumulate: int, seed: int, epoch: int
) -> list[list[list[int]]]:
    """One epoch's optimizer batches, each a list of at most `accumulate` micro-batches of row indices.

    Rows are shuffled by (seed, epoch) and dealt to optimizer batches; within one, rows of similar length share a
    micro-batch. Every row occurs exactly once; the last optimizer batch may be smaller.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    size = micro * accumulate
    # Sorting a window of several optimizer batches saves padding; shuffling them again keeps steps unordered.
    window = size * 8
    steps: list[list[list[int]]] = []
    for start in range(0, len(order), window):
        rows = sorted(order[start : start + window].tolist(), key=lambda row: lengths[row])
        for first in range(0, len(rows), size):
            chunk = rows[first : first + size]
            steps.append([chunk[i : i + micro] for i in range(0, len(chunk), micro)])
    # A partial optimizer batch stays last: accumulation counts micro-batches from the start of the epoch.
    full = [step for step in steps if len(step) == accumulate]
    partial = [step for step in steps if len(step) < accumulate]
    generator.shuffle(full)
    return full + partial


class _Batches(Dataset[SupervisedBatch]):
    def __init__(self, data: Encoded, batches: list[tuple[list[int], int]], pad_id: int) -> None:
        self.data, self.batches, self.pad_id = data, batches, pad_id

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> SupervisedBatch:
        rows, tokens = self.batches[index]
        targets = [self.data.targets[row] for row in rows or [0]]
        mask = pad_right([[1.0] * len(target) for target in targets], 0.0)
        return {
            "inputs": self.data.inputs.select(rows or [0]),
            "response_ids": pad_right(targets, self.pad_id),
            "response_mask": mask if rows else torch.zeros_like(mask),
            "denominator": tokens,
        }


def _own(step: list[list[int]]) -> list[list[int]]:
    # Every rank takes part equally often; one short of rows with a batch that counts for nothing.
    missing = -len(step) % world_size()
    return shard([*step, *([[]] * missing)])


class SupervisedData(pl.LightningDataModule):
    """Training rows reshuffled every epoch, validation rows in order.

    Each batch carries `denominator`: the number of target tokens of its optimizer batch, so that the loss is the mean
    over the optimizer batch's tokens however it is divided. A step has `accumulate` micro-batches on each rank.
    """

    train: Encoded
    val: Encoded

    def __init__(self, *, pad_id: int, micro: int, accumulate: int, eval_batch: int, seed: int) -> None:
        super().__init__()
        self.pad_id, self.micro, self.accumulate = pad_id, micro, accumulate
        self.eval_batch, self.seed = eval_batch, seed

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return -(-len(self.train) // (self.micro * self.accumulate * world_size()))

    def train_dataloader(self) -> DataLoader[SupervisedBatch]:
        """This epoch's micro-batches."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        steps = bucketed_batches(
            self.train.lengths,
            micro=self.micro,
            accumulate=self.accumulate * world_size(),
            seed=self.seed,
            epoch=epoch,
        )
        batches = [
            (micro, sum(len(self.train.targets[row]) for part in step for row in part))
            for step in steps
            for micro in _own(step)
        ]
        rest = RemainingBatches(self.trainer, len(batches))
        return DataLoader(_Batches(self.train, batches, self.pad_id), batch_size=None, sampler=rest)

    def val_dataloader(self) -> DataLoader[SupervisedBatch]:
        """The validation rows, longest prompts last; ranks share the batches, and each has equally many."""
        lengths = self.val.inputs.lengths
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        size = min(self.eval_batch, max(1, len(order) // world_size()))
        batches = [(rows, 0) for rows in _own([order[i : i + size] for i in range(0, len(order), size)])]
        return DataLoader(_Batches(self.val, batches, self.pad_id), batch_size=None)
