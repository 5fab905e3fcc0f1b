"""Prompts and targets in length-bucketed batches of fixed optimizer steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

import numpy as np
import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ares.datamodules.ahead import load_batches
from ares.datamodules.parts import filled, spread
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

    @property
    def weights(self) -> list[int]:
        """Target tokens of each example, by which an optimizer batch's loss is divided."""
        return [len(target) for target in self.targets]

    def batch(self, rows: Sequence[int], denominator: int, pad_id: int) -> "SupervisedBatch":
        """The given rows for a forward pass; no rows give a batch that counts for nothing."""
        targets = [self.targets[row] for row in rows or [0]]
        return {
            "inputs": self.inputs.select(rows or [0]),
            "response_ids": pad_right(targets, pad_id),
            "lengths": [len(target) * bool(rows) for target in targets],
            "denominator": denominator,
        }


class SupervisedBatch(TypedDict):
    """B prompts and their targets (B, T), with `lengths` tokens each; `denominator`: target tokens of the optimizer batch, on all ranks."""

    inputs: Inputs
    response_ids: Tensor
    lengths: list[int]
    denominator: int


class Rows(Protocol):
    """What a fit reads: rows with their prompts, and batches of them."""

    @property
    def inputs(self) -> Inputs:
        """The prompts."""
        ...

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        ...

    @property
    def weights(self) -> list[int]:
        """What each row adds to the denominator of its optimizer batch."""
        ...

    def __len__(self) -> int: ...

    def batch(self, rows: Sequence[int], denominator: int, pad_id: int) -> Mapping[str, Any]:
        """The given rows for a forward pass; no rows give a batch that counts for nothing."""
        ...


def encode(policy: Policy, examples: Sequence[Example], *, max_output_tokens: int) -> Encoded:
    """Examples as the policy reads them."""
    return Encoded(policy.encode(examples), policy.encode_targets(examples, max_tokens=max_output_tokens))


def bucketed_batches(
    lengths: Sequence[int],
    *,
    micro: int,
    accumulate: int,
    seed: int,
    epoch: int,
    micro_tokens: int | None = None,
) -> list[list[list[int]]]:
    """One epoch's optimizer batches of `micro` · `accumulate` rows, each a list of micro-batches of row indices.

    Rows are shuffled by (seed, epoch) and dealt to optimizer batches; within one, rows of similar length share a
    micro-batch: `micro` rows or, if it is not None, as many as have `micro_tokens` of `lengths`. Every row occurs exactly
    once; the last optimizer batch may be smaller.
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
            parts = filled(
                [[row] for row in chunk], lambda unit: lengths[unit[0]], rows=micro, tokens=micro_tokens
            )
            steps.append([[row for unit in part for row in unit] for part in parts])
    # A step of fewer micro-batches stays last: accumulation counts them from the start of the epoch.
    partial = [step for step in steps if len(step) < accumulate and micro_tokens is None]
    full = [step for step in steps if step not in partial]
    generator.shuffle(full)
    return full + partial


class _Batches(Dataset[Mapping[str, Any]]):
    def __init__(self, data: Rows, batches: list[tuple[list[int], int]], pad_id: int) -> None:
        self.data, self.batches, self.pad_id = data, batches, pad_id

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.data.batch(*self.batches[index], self.pad_id)


def _own(step: list[list[int]]) -> list[list[int]]:
    # Every rank takes part equally often; one short of rows with a batch that counts for nothing.
    missing = -len(step) % world_size()
    return shard([*step, *([[]] * missing)])


class SupervisedData(pl.LightningDataModule):
    """Training rows reshuffled every epoch, validation rows in order.

    Each batch carries `denominator`: the number of target tokens of its optimizer batch, so that the loss is the mean
    over the optimizer batch's tokens however it is divided. A step has `micro` · `accumulate` rows on each rank, in
    `accumulate` micro-batches; with `micro_tokens`, `plan` sets into how many it is divided.
    """

    train: Rows
    val: Rows

    def __init__(
        self,
        *,
        pad_id: int,
        micro: int,
        accumulate: int,
        eval_batch: int,
        seed: int,
        micro_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.pad_id, self.micro, self.micro_tokens = pad_id, micro, micro_tokens
        self.rows_per_rank, self.accumulate = micro * accumulate, accumulate
        self.eval_batch, self.seed = eval_batch, seed

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return -(-len(self.train) // (self.rows_per_rank * world_size()))

    def plan(self, epochs: int) -> None:
        """Sets `accumulate` so that `micro_tokens` are enough for every micro-batch of all epochs."""
        if self.micro_tokens is not None:
            most = max((len(step) for epoch in range(epochs) for step in self._steps(epoch)), default=1)
            self.accumulate = -(-most // world_size())

    def _steps(self, epoch: int) -> list[list[list[int]]]:
        return bucketed_batches(
            self.train.lengths,
            micro=self.micro,
            accumulate=self.rows_per_rank // self.micro * world_size(),
            seed=self.seed,
            epoch=epoch,
            micro_tokens=self.micro_tokens,
        )

    def train_dataloader(self) -> DataLoader[Mapping[str, Any]]:
        """This epoch's micro-batches."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        lengths, weights = self.train.lengths, self.train.weights
        batches = []
        for step in self._steps(epoch):
            tokens = sum(weights[row] for part in step for row in part)
            if self.micro_tokens is not None:
                # Lightning counts the same number of micro-batches in each step.
                units = [[[row] for row in part] for part in step]
                step = spread(units, lambda unit: lengths[unit[0]], self.accumulate * world_size())
            batches += [(part, tokens) for part in _own(step)]
        rest = RemainingBatches(self.trainer, len(batches))
        return load_batches(_Batches(self.train, batches, self.pad_id), self.trainer, rest)

    def val_dataloader(self) -> DataLoader[Mapping[str, Any]]:
        """The validation rows, longest prompts last; ranks share the batches, and each has equally many."""
        lengths = self.val.inputs.lengths
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        size = min(self.eval_batch, max(1, len(order) // world_size()))
        batches = [(rows, 0) for rows in _own([order[i : i + size] for i in range(0, len(order), size)])]
        return load_batches(_Batches(self.val, batches, self.pad_id), self.trainer)
