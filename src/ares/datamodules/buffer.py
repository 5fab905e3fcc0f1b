"""Scored rollouts as a fixed buffer.

Rows are rationales that the Teacher scored; those of held-out questions are evaluated and never trained on.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TypedDict

import torch
from torch import Tensor

from ares.data.holdout import is_held_out
from ares.models.inputs import Inputs
from ares.models.policy import Policy
from ares.rl.kl import kl_penalty
from ares.rl.losses import sampler_weights
from ares.rl.masked import pad_right
from ares.rl.objectives import Rollouts
from ares.rl.rewards import sentence_rewards
from ares.text.sentences import repetition_rate
from ares.types import AresError, Example, Rollout


class RolloutBatch(TypedDict):
    """B rows of a buffer, cut to their longest response; T response tokens.

    `rows` (B,) int64; `response_ids` (B, T) int64; `response_mask`, `old_logprobs`, `ref_logprobs` (B, T) float32.
    """

    rows: Tensor
    inputs: Inputs
    response_ids: Tensor
    response_mask: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor


class RolloutBuffer:
    """Rationales with status ok, their rewards and stored log-probabilities; N rows, T the longest response.

    `rows` the rollouts in the order given; `train`, `heldout` their indices by kind of question;
    `response_ids` (N, T) int32; `mask`, `rewards`, `logprobs`, `ref_logprobs` (N, T) float32, 0 on padding.
    """

    def __init__(
        self,
        policy: Policy,
        examples: Mapping[str, Example],
        rollouts: Sequence[Rollout],
        scores: Mapping[str, Sequence[float]],
        *,
        neutral: float,
        holdout: float,
        correct_sampler: bool = False,
    ) -> None:
        """`examples` by pid; `scores` by row_id, one number in [0, 1] per sentence: a row without is left out.

        `holdout`: the share of questions that is held out; `correct_sampler`: see `sampler_weights`. Raises AresError
        where rows do not match one another or nothing is left to train on.
        """
        self.rollouts, self.correct_sampler = rollouts, correct_sampler
        self.rows = [row for row in rollouts if row.row_id in scores]
        for row in self.rows:
            _check(row, scores[row.row_id], examples)
        self.heldout = [i for i, row in enumerate(self.rows) if is_held_out(row.pid, holdout)]
        self.train = sorted(set(range(len(self.rows))) - set(self.heldout))
        if not self.train:
            raise _nothing_left(len(rollouts), len(self.heldout), holdout)
        questions = list(dict.fromkeys(row.pid for row in self.rows))
        self._question = {pid: number for number, pid in enumerate(questions)}
        self.inputs = policy.encode([examples[pid] for pid in questions])
        self.lengths = [len(row.token_ids) for row in self.rows]
        self.response_ids = pad_right([row.token_ids for row in self.rows], policy.pad_id, dtype=torch.int32)
        self.mask = pad_right([[1.0] * length for length in self.lengths], 0.0)
        self.logprobs = pad_right([row.logprobs for row in self.rows], 0.0)
        self.ref_logprobs = pad_right([row.ref_logprobs for row in self.rows], 0.0)
        self.rewards = _rewards(self.rows, scores, neutral)
        self.scores = [float(score) for row in self.rows for score in scores[row.row_id]]

    def __len__(self) -> int:
        return len(self.rows)

    def sizes(self) -> list[int]:
        """Prompt and response tokens of each row, by which batches are bucketed."""
        prompts = self.inputs.lengths
        return [
            prompts[self._question[row.pid]] + length
            for row, length in zip(self.rows, self.lengths, strict=True)
        ]

    def token_rewards(self, *, kl_coef: float) -> Tensor:
        """`rewards` − kl_coef · (stored log-probability − the reference's): (N, T) float32, 0 on padding."""
        penalty = kl_penalty(self.logprobs, self.ref_logprobs, self.mask, estimator="k1")
        return self.rewards - kl_coef * penalty

    @cached_property
    def sampler_weights(self) -> Tensor:
        """What advantages are multiplied by: (N, T) float32, 1 unless another sampler is corrected for."""
        used = [(self.correct_sampler and row.sampler_logprobs) or row.logprobs for row in self.rows]
        return sampler_weights(self.logprobs, pad_right(used, 0.0), self.mask)

    def groups(self) -> list[list[int]]:
        """The rows of each question, in order."""
        groups: dict[str, list[int]] = {}
        for i, row in enumerate(self.rows):
            groups.setdefault(row.pid, []).append(i)
        return list(groups.values())

    def as_rollouts(self, rewards: Tensor) -> Rollouts:
        """The buffer as an objective sees it, with token rewards (N, T)."""
        trained = torch.zeros_like(self.mask)
        trained[self.train] = self.mask[self.train]
        ends = [row.token_ends for row in self.rows]
        return Rollouts(
            rewards,
            self.mask.to(rewards.device),
            trained.to(rewards.device),
            self.lengths,
            ends,
            self.groups(),
        )

    def batch(self, rows: Sequence[int]) -> RolloutBatch:
        """The given rows for a forward pass.

        No rows give one whose mask is 0 throughout: a rank that has run out takes part in the step without changing it.
        """
        index = torch.tensor(rows or [min(range(len(self)), key=self.lengths.__getitem__)])
        longest = max(self.lengths[i] for i in index.tolist())
        mask = self.mask[index, :longest]
        return {
            "rows": index,
            "inputs": self.inputs.select([self._question[self.rows[i].pid] for i in index.tolist()]),
            "response_ids": self.response_ids[index, :longest].long(),
            "response_mask": mask if rows else torch.zeros_like(mask),
            "old_logprobs": self.logprobs[index, :longest],
            "ref_logprobs": self.ref_logprobs[index, :longest],
        }

    def metrics(self) -> dict[str, float]:
        """Metrics of the training data: shares of all rollouts, means over scored ones."""
        offered, count = max(1, len(self.rollouts)), len(self.rows)
        scored = {row.row_id for row in self.rows}
        refused = sum(bool(row.spans) and row.row_id not in scored for row in self.rollouts)
        return {
            "score": sum(self.scores) / max(1, len(self.scores)),
            "sentences": sum(len(row.spans) for row in self.rows) / count,
            "repetition": sum(repetition_rate(row.text) for row in self.rows) / count,
            "length": sum(self.lengths) / count,
            "truncated": sum(row.truncated for row in self.rollouts) / offered,
            "quarantined": refused / offered,
            "empty": sum(not row.spans for row in self.rollouts) / offered,
            "train_rows": len(self.train),
            "heldout_rows": len(self.heldout),
        }


def _nothing_left(rollouts: int, heldout: int, holdout: float) -> AresError:
    if not heldout:
        return AresError(
            f"None of {rollouts} rollouts has scores, so there is nothing to train on; the column `reason` of "
            "feedback.parquet says why: they are empty, or the Teacher's replies cannot be used (teacher.max_quarantine)."
        )
    return AresError(
        f"The {heldout} rollouts with scores (of {rollouts}) are all of questions that rl.holdout={holdout} holds out, so "
        "none is left to train on; lower it, or give more questions."
    )


def _rewards(rows: Sequence[Rollout], scores: Mapping[str, Sequence[float]], neutral: float) -> Tensor:
    found = [
        sentence_rewards(scores[r.row_id], r.token_ends, len(r.token_ids), neutral=neutral) for r in rows
    ]
    return pad_right([row.tolist() for row in found], 0.0)


def _check(row: Rollout, scores: Sequence[float], examples: Mapping[str, Example]) -> None:
    tokens = len(row.token_ids)
    if row.pid not in examples:
        raise AresError(
            f"Rollout {row.row_id} belongs to a problem that is not in the data; roll out afresh."
        )
    stored = (row.logprobs, row.ref_logprobs, row.sampler_logprobs or row.logprobs)
    if any(len(logprobs) != tokens for logprobs in stored):
        raise AresError(f"Rollout {row.row_id} does not have one log-probability per token; roll out afresh.")
    if len(scores) != len(row.token_ends):
        raise AresError(
            f"Rollout {row.row_id} has {len(row.token_ends)} sentences and {len(scores)} scores; its feedback is of "
            "other rollouts, score them afresh."
        )
    if not scores or not all(0.0 <= score <= 1.0 for score in scores):
        raise AresError(
            f"The scores of rollout {row.row_id} are not numbers between 0 and 1; score it afresh."
        )
