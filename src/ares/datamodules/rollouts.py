"""Scored rollouts as a fixed buffer, visited in a new order every epoch.

Rows are rationales that the Teacher scored; those of held-out questions are looked at and never trained on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ares.datamodules.collate import Features, collate_prompts, pad_right
from ares.rl.kl import kl_penalty
from ares.rl.rewards import sentence_rewards
from ares.text.sentences import repetition_rate
from ares.types import AresError, Rollout


class RolloutBuffer:
    """Rationales with status ok, their rewards and stored log-probabilities; N rows, T the longest response.

    `rows` the rollouts in the order given; `train`, `heldout` their indices by kind of question;
    `response_ids` (N, T) int32; `mask`, `rewards`, `logprobs`, `ref_logprobs` (N, T) float32, 0 on padding.
    """

    def __init__(
        self,
        rollouts: Sequence[Rollout],
        scores: Mapping[str, Sequence[float]],
        prompts: Mapping[str, Sequence[int]],
        *,
        pad_id: int,
        neutral: float,
        holdout: float,
    ) -> None:
        """`scores` by row_id, a number in [0, 1] a sentence: a row that has none is left out. `prompts`: ids by pid.

        `holdout`: the share of questions that is held out. Raises AresError where rows do not fit one another
        or nothing is left to train on.
        """
        self.rows = [row for row in rollouts if row.row_id in scores]
        for row in self.rows:
            _check(row, scores[row.row_id], prompts)
        self.pad_id, self.prompts, self.offered = pad_id, prompts, rollouts
        self.heldout = [i for i, row in enumerate(self.rows) if is_held_out(row.pid, holdout)]
        held = set(self.heldout)
        self.train = [i for i in range(len(self.rows)) if i not in held]
        if not self.train:
            raise AresError(
                f"Of {len(rollouts)} rollouts {len(self.rows)} have scores and {len(held)} of these are held out, so "
                "none is left to train on; look into feedback.parquet, or lower rl.holdout."
            )
        self.lengths = [len(row.token_ids) for row in self.rows]
        self.response_ids = pad_right([row.token_ids for row in self.rows], pad_id, dtype=torch.int32)
        self.mask = pad_right([[1.0] * length for length in self.lengths], 0.0)
        self.logprobs = pad_right([row.logprobs for row in self.rows], 0.0)
        self.ref_logprobs = pad_right([row.ref_logprobs for row in self.rows], 0.0)
        self.rewards = pad_right(
            [
                sentence_rewards(scores[r.row_id], r.token_ends, len(r.token_ids), neutral=neutral).tolist()
                for r in self.rows
            ],
            0.0,
        )
        self.scores = [float(score) for row in self.rows for score in scores[row.row_id]]

    def __len__(self) -> int:
        return len(self.rows)

    def sizes(self) -> list[int]:
        """Prompt and response tokens of each row: what a batch is bucketed by."""
        return [
            len(self.prompts[row.pid]) + length for row, length in zip(self.rows, self.lengths, strict=True)
        ]

    def token_rewards(self, *, kl_coef: float) -> Tensor:
        """`rewards` − kl_coef · (stored log-probability − the reference's): (N, T) float32, 0 on padding."""
        penalty = kl_penalty(self.logprobs, self.ref_logprobs, self.mask, estimator="k1")
        return self.rewards - kl_coef * penalty

    def groups(self) -> list[list[int]]:
        """The rows of each question, in order."""
        groups: dict[str, list[int]] = {}
        for i, row in enumerate(self.rows):
            groups.setdefault(row.pid, []).append(i)
        return list(groups.values())

    def batch(self, rows: Sequence[int], features: Features | None) -> dict[str, Tensor | None]:
        """The given rows for a forward pass, cut to the longest of them: B rows, S prompt, T response tokens.

        `rows` (B,) int64; `input_ids`, `attention_mask` (B, S) int64; `image_features` (B, P, D) float32 or None;
        `response_ids` (B, T) int64; `response_mask`, `old_logprobs`, `ref_logprobs` (B, T) float32. No rows give
        one whose mask is 0 throughout: a rank that has run out takes part in the step without changing it.
        """
        index = torch.tensor(rows or [min(range(len(self)), key=self.lengths.__getitem__)])
        pids = [self.rows[i].pid for i in index.tolist()]
        longest = max(self.lengths[i] for i in index.tolist())
        mask = self.mask[index, :longest]
        return {
            "rows": index,
            **collate_prompts([self.prompts[pid] for pid in pids], pids, self.pad_id, features),
            "response_ids": self.response_ids[index, :longest].long(),
            "response_mask": mask if rows else torch.zeros_like(mask),
            "old_logprobs": self.logprobs[index, :longest],
            "ref_logprobs": self.ref_logprobs[index, :longest],
        }

    def figures(self) -> dict[str, float]:
        """What is trained on, beside the rewards' own figures: shares of all rollouts, means over scored ones."""
        offered, count = max(1, len(self.offered)), len(self.rows)
        scored = {row.row_id for row in self.rows}
        refused = sum(bool(row.spans) and row.row_id not in scored for row in self.offered)
        return {
            "score": sum(self.scores) / max(1, len(self.scores)),
            "sentences": sum(len(row.spans) for row in self.rows) / count,
            "repetition": sum(repetition_rate(row.text) for row in self.rows) / count,
            "length": sum(self.lengths) / count,
            "truncated": sum(row.truncated for row in self.offered) / offered,
            "quarantined": refused / offered,
            "empty": sum(not row.spans for row in self.offered) / offered,
            "train_rows": len(self.train),
            "heldout_rows": len(self.heldout),
        }


def is_held_out(pid: str, share: float) -> bool:
    """Whether a question is held out: by sha256 of its id, so that it is so in every run, round and order."""
    return int.from_bytes(hashlib.sha256(pid.encode()).digest()[:8], "big") < share * 2**64


def _check(row: Rollout, scores: Sequence[float], prompts: Mapping[str, Sequence[int]]) -> None:
    tokens = len(row.token_ids)
    if row.pid not in prompts:
        raise AresError(
            f"Rollout {row.row_id} belongs to a problem that is not in the data; roll out afresh."
        )
    if len(row.logprobs) != tokens or len(row.ref_logprobs) != tokens:
        raise AresError(f"Rollout {row.row_id} has not one log-probability a token; roll out afresh.")
    if len(scores) != len(row.token_ends):
        raise AresError(
            f"Rollout {row.row_id} has {len(row.token_ends)} sentences and {len(scores)} scores; its feedback is of "
            "other rollouts, score them afresh."
        )
    if not scores or not all(0.0 <= score <= 1.0 for score in scores):
        raise AresError(
            f"The scores of rollout {row.row_id} are not numbers between 0 and 1; score it afresh."
        )


def optimiser_batches(rows: Sequence[int], *, size: int, seed: int, epoch: int) -> list[list[int]]:
    """One epoch's optimiser batches: every row once, shuffled by (seed, epoch).

    There are as few as `size` rows each allow, and they differ by at most one row, so that no step stands on a
    remainder of a few rows.
    """
    order = np.random.default_rng((seed, epoch)).permutation(np.asarray(rows))
    return [part.tolist() for part in np.array_split(order, -(-len(order) // size))]


def micro_batches(rows: Sequence[int], sizes: Sequence[int], count: int) -> list[list[int]]:
    """The rows of an optimiser batch in `count` parts of like length and equal rows (±1; maybe none)."""
    ordered = sorted(rows, key=lambda row: (sizes[row], row))
    return [part.tolist() for part in np.array_split(np.asarray(ordered, dtype=np.int64), count)]


class RolloutData(pl.LightningDataModule):
    """Micro-batches of a buffer for Lightning: `accumulate` of them on each of `world` ranks make a step.

    Which rows make a step depends on `global_batch` and the seed alone, not on `micro` or `world`. Beside
    `RolloutBuffer.batch` a micro-batch holds `denominator`: the real tokens of the whole optimiser batch, all ranks.
    """

    def __init__(
        self,
        buffer: RolloutBuffer,
        *,
        features: Features | None,
        global_batch: int,
        micro: int,
        world: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.buffer, self.features, self.global_batch, self.seed = buffer, features, global_batch, seed
        self.micro, self.world = micro, world
        self.steps_per_epoch = -(-len(buffer.train) // global_batch)
        largest = -(-len(buffer.train) // self.steps_per_epoch)
        self.accumulate = -(-largest // (micro * world))

    def epoch_batches(self, epoch: int, rank: int) -> list[tuple[list[int], int]]:
        """One rank's micro-batches of an epoch in order: (rows, denominator)."""
        buffer, sizes = self.buffer, self.buffer.sizes()
        found = []
        for rows in optimiser_batches(buffer.train, size=self.global_batch, seed=self.seed, epoch=epoch):
            tokens = sum(buffer.lengths[row] for row in rows)
            parts = micro_batches(rows, sizes, self.accumulate * self.world)
            # Neighbours in length go to different ranks, which thus work on like lengths at a time.
            found += [(part, tokens) for part in parts[rank :: self.world]]
        return found

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor | None]:
        """`RolloutBuffer.batch` with this data's features."""
        return self.buffer.batch(rows, self.features)

    def train_dataloader(self) -> DataLoader[Any]:
        """This epoch's micro-batches on this rank."""
        epoch, rank = (self.trainer.current_epoch, self.trainer.global_rank) if self.trainer else (0, 0)
        return DataLoader(_MicroBatches(self, self.epoch_batches(epoch, rank)), batch_size=None)


class _MicroBatches(Dataset[dict[str, Any]]):
    def __init__(self, data: RolloutData, batches: list[tuple[list[int], int]]) -> None:
        self.data, self.batches = data, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rows, tokens = self.batches[index]
        return {**self.data.batch(rows), "denominator": float(tokens)}
