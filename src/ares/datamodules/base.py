"""Supervised examples as token ids, in length-bucketed batches of fixed optimiser steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ares.datamodules.collate import collate_seq2seq
from ares.ranks import shard, world_size
from ares.types import Example


@dataclass(frozen=True)
class Encoded:
    """An example as ids; both end with EOS."""

    pid: str
    input_ids: tuple[int, ...]
    label_ids: tuple[int, ...]


def encode_examples(
    tokenizer: Any, examples: Mapping[str, Example], *, max_input_tokens: int, max_output_tokens: int
) -> list[Encoded]:
    """The examples (by pid) as ids, cut to the given numbers of tokens with EOS kept as the last one."""
    if not examples:
        return []
    prompts = tokenizer([e.prompt for e in examples.values()], truncation=True, max_length=max_input_tokens)
    targets = tokenizer([e.target for e in examples.values()], truncation=True, max_length=max_output_tokens)
    return [
        Encoded(pid, tuple(prompt), tuple(target))
        for pid, prompt, target in zip(examples, prompts["input_ids"], targets["input_ids"], strict=True)
    ]


def bucketed_batches(
    lengths: Sequence[int], *, micro: int, accumulate: int, seed: int, epoch: int
) -> list[list[list[int]]]:
    """One epoch's optimiser batches, each a list of at most `accumulate` micro-batches of row indices.

    Rows are shuffled by (seed, epoch) and dealt to optimiser batches; inside one, rows of like length share a
    micro-batch. Every row occurs exactly once; the last optimiser batch may be smaller.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    size = micro * accumulate
    # Sorting a window of several optimiser batches saves padding; shuffling them again keeps steps unordered.
    window = size * 8
    steps: list[list[list[int]]] = []
    for start in range(0, len(order), window):
        rows = sorted(order[start : start + window].tolist(), key=lambda row: lengths[row])
        for first in range(0, len(rows), size):
            chunk = rows[first : first + size]
            steps.append([chunk[i : i + micro] for i in range(0, len(chunk), micro)])
    # A partial optimiser batch stays last: accumulation counts micro-batches from the start of the epoch.
    whole = [step for step in steps if len(step) == accumulate]
    partial = [step for step in steps if len(step) < accumulate]
    generator.shuffle(whole)
    return whole + partial


class _Batches(Dataset[dict[str, Any]]):
    def __init__(
        self, rows: Sequence[Encoded], batches: list[tuple[list[int], int]], features: Any, pad_id: int
    ) -> None:
        self.rows, self.batches, self.features, self.pad_id = rows, batches, features, pad_id

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Tensor | list[str] | int | None]:
        micro, tokens = self.batches[index]
        batch = collate_seq2seq([self.rows[row] for row in micro or [0]], self.pad_id, self.features)
        if not micro:
            batch["labels"].fill_(-100)  # type: ignore[union-attr]
        return {**batch, "denominator": tokens}


def _own(step: list[list[int]]) -> list[list[int]]:
    # Every rank takes part in every step as often; one short of rows with a batch that counts for nothing.
    missing = -len(step) % world_size()
    return shard([*step, *([[]] * missing)])


class Seq2SeqData(pl.LightningDataModule):
    """Training rows reshuffled every epoch, validation rows in order.

    Each batch carries `denominator`: the number of label tokens of its whole optimiser batch, so that the loss
    is the mean over the optimiser batch's tokens however it is cut. A step has `accumulate` micro-batches on each rank.
    """

    def __init__(
        self,
        train: Sequence[Encoded],
        val: Sequence[Encoded],
        *,
        features: Any,
        pad_id: int,
        micro: int,
        accumulate: int,
        eval_batch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.train, self.val, self.features, self.pad_id = train, val, features, pad_id
        self.micro, self.accumulate, self.eval_batch, self.seed = micro, accumulate, eval_batch, seed

    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch."""
        return -(-len(self.train) // (self.micro * self.accumulate * world_size()))

    def train_dataloader(self) -> DataLoader[Any]:
        """This epoch's micro-batches."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        lengths = [len(row.input_ids) + len(row.label_ids) for row in self.train]
        steps = bucketed_batches(
            lengths, micro=self.micro, accumulate=self.accumulate * world_size(), seed=self.seed, epoch=epoch
        )
        batches = [
            (micro, sum(len(self.train[row].label_ids) for part in step for row in part))
            for step in steps
            for micro in _own(step)
        ]
        return DataLoader(_Batches(self.train, batches, self.features, self.pad_id), batch_size=None)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation rows, longest prompts last; ranks share the batches, unless one would have none."""
        order = sorted(range(len(self.val)), key=lambda row: len(self.val[row].input_ids))
        size = min(self.eval_batch, max(1, len(order) // world_size()))
        batches = [(order[i : i + size], 0) for i in range(0, len(order), size)]
        mine = shard(batches) if len(batches) >= world_size() else batches
        return DataLoader(_Batches(self.val, mine, self.features, self.pad_id), batch_size=None)
