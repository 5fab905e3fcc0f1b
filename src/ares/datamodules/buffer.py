"""Scored rollouts as a fixed buffer.

Rows are rationales that the Teacher scored; those of held-out questions are evaluated and never trained on.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import TypedDict

import torch
from torch import Tensor

from ares.data.holdout import is_held_out
from ares.models.inputs import Inputs
from ares.models.policy import Policy
from ares.rl.kl import kl_penalty
from ares.rl.losses import sampler_weights
from ares.rl.rewards import sentence_rewards
from ares.storage.flat import FlatRollouts
from ares.types import AresError, Example


class RolloutBatch(TypedDict):
    """B rows of a buffer, cut to their longest response; T response tokens.

    `rows` (B,) int64; `lengths`: the tokens of each, 0 for one that counts for nothing; `places` (B, T) int64: each token's
    index in the buffer's flat tensors, 0 on padding; `response_ids` (B, T) int64; `response_mask`, `old_logprobs`,
    `ref_logprobs` (B, T) float32.
    """

    rows: Tensor
    lengths: list[int]
    places: Tensor
    inputs: Inputs
    response_ids: Tensor
    response_mask: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor


class RolloutBuffer:
    """Rationales with status ok, their rewards and stored log-probabilities: N rows with n tokens in all, unpadded.

    `pids`, `lengths`, `ends` (of sentences) of each row; `train`, `heldout` its rows by kind of question; `starts` (N,)
    int64: where the tokens of each row begin in `token_ids` (n,) int32 and `rewards`, `logprobs`, `ref_logprobs` (n,)
    float32, which hold the tokens of rows without scores, too.
    """

    def __init__(
        self,
        policy: Policy,
        examples: Mapping[str, Example],
        rollouts: FlatRollouts,
        scores: Mapping[str, Sequence[float]],
        *,
        neutral: float,
        holdout: float,
        granularity: str = "sentence",
        correct_sampler: bool = False,
        sentence_weight: float = 1.0,
        terms: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """`examples` by pid; `scores` by row_id, one number in [0, 1] per sentence: a row without is left out.

        `granularity="rationale"`: the mean score rewards a rationale's end; `sentence_weight` multiplies sentence rewards;
        `terms`: further rewards by name, one per rollout, at its last token; `holdout`: the share of questions held out;
        `correct_sampler`: see `sampler_weights`. Raises AresError where rows do not match or nothing is left to train on.
        """
        self.rollouts, self.correct_sampler = rollouts, correct_sampler
        self.kept = [i for i, row_id in enumerate(rollouts.row_ids) if row_id in scores]
        for i in self.kept:
            _check(rollouts, i, scores[rollouts.row_ids[i]], examples)
        self.pids = [rollouts.pids[i] for i in self.kept]
        self.ends = [rollouts.ends(i) for i in self.kept]
        self._hold_out(holdout)
        number = {pid: i for i, pid in enumerate(dict.fromkeys(self.pids))}
        self.question = [number[pid] for pid in self.pids]
        self.inputs, self.pad_id = policy.encode([examples[pid] for pid in number]), policy.pad_id
        offsets = torch.from_numpy(rollouts.offsets)
        self.starts, self.lengths = offsets[self.kept], offsets.diff()[self.kept].tolist()
        self.token_ids = torch.from_numpy(rollouts.token_ids)
        self.logprobs = torch.from_numpy(rollouts.logprobs)
        self.ref_logprobs = torch.from_numpy(rollouts.ref_logprobs)
        of_rows: list[Sequence[float]] = [scores[rollouts.row_ids[i]] for i in self.kept]
        if granularity == "rationale":
            of_rows, self.ends = [[fmean(own)] for own in of_rows], [own[-1:] for own in self.ends]
        self.scores = [float(score) for found in of_rows for score in found]
        self._reward(of_rows, terms or {}, neutral, sentence_weight)

    def _reward(
        self,
        scores: Sequence[Sequence[float]],
        terms: Mapping[str, Sequence[float]],
        neutral: float,
        weight: float,
    ) -> None:
        """Sets `rewards`, and `terms`: the mean per rationale of the sentences' rewards and of each further one."""
        self.rewards = torch.zeros(len(self.token_ids))
        for row, found in enumerate(scores):
            own = sentence_rewards(found, self.ends[row], self.lengths[row], neutral=neutral)
            self.rewards[self.tokens(row)] = weight * own
        self.terms = {"sentences": float(self.rewards.sum()) / len(self)}
        last = self.starts + torch.tensor(self.lengths) - 1
        for name, values in terms.items():
            added = torch.tensor(values, dtype=torch.float32)[self.kept]
            self.rewards[last] += added
            self.terms[name] = float(added.mean())

    def _hold_out(self, holdout: float) -> None:
        self.heldout = [row for row, pid in enumerate(self.pids) if is_held_out(pid, holdout)]
        self.train = sorted(set(range(len(self.pids))) - set(self.heldout))
        if not self.train:
            raise _nothing_left(len(self.rollouts), len(self.heldout), holdout)

    def __len__(self) -> int:
        return len(self.pids)

    def tokens(self, row: int) -> slice:
        """The tokens of a row in the flat tensors."""
        start = int(self.starts[row])
        return slice(start, start + self.lengths[row])

    def places(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Of rows, cut to their longest: each token's index in the flat tensors, (B, T) int64, and the mask (B, T) float32."""
        lengths = torch.tensor([self.lengths[row] for row in rows])
        within = torch.arange(int(lengths.max()))
        real = within < lengths[:, None]
        return (self.starts[list(rows), None] + within).masked_fill(~real, 0), real.float()

    def token_rewards(self, *, kl_coef: float) -> Tensor:
        """`rewards` − kl_coef · (stored log-probability − the reference's): (n,) float32."""
        everywhere = torch.ones_like(self.rewards)
        penalty = kl_penalty(self.logprobs, self.ref_logprobs, everywhere, estimator="k1")
        return self.rewards - kl_coef * penalty

    @cached_property
    def sampler_weights(self) -> Tensor:
        """What advantages are multiplied by: (n,) float32, 1 unless another sampler is corrected for."""
        used = torch.from_numpy(self.rollouts.sampler_logprobs) if self.correct_sampler else self.logprobs
        return sampler_weights(self.logprobs, used, torch.ones_like(self.logprobs))

    def groups(self, rows: Iterable[int] | None = None) -> list[list[int]]:
        """The rows (None: all) of each question, in order."""
        groups: dict[str, list[int]] = {}
        for row in range(len(self)) if rows is None else rows:
            groups.setdefault(self.pids[row], []).append(row)
        return list(groups.values())

    def batch(self, rows: Sequence[int]) -> RolloutBatch:
        """The given rows for a forward pass.

        No rows give one whose mask is 0 throughout: a rank that has run out takes part in the step without changing it.
        """
        chosen = list(rows) or [min(range(len(self)), key=self.lengths.__getitem__)]
        places, mask = self.places(chosen)
        real = mask.bool()
        return {
            "rows": torch.tensor(chosen),
            "lengths": [self.lengths[row] for row in rows] or [0],
            "places": places,
            "inputs": self.inputs.select([self.question[row] for row in chosen]),
            "response_ids": self.token_ids[places].long().masked_fill(~real, self.pad_id),
            "response_mask": mask if rows else torch.zeros_like(mask),
            "old_logprobs": self.logprobs[places].masked_fill(~real, 0.0),
            "ref_logprobs": self.ref_logprobs[places].masked_fill(~real, 0.0),
        }

    def metrics(self) -> dict[str, float]:
        """Metrics of the training data: shares of all rollouts, means over scored ones; each term of their reward."""
        rollouts, offered, count = self.rollouts, max(1, len(self.rollouts)), len(self)
        sentences = [len(rollouts.ends(i)) for i in range(len(rollouts))]
        refused = set(range(len(rollouts))) - set(self.kept)
        return {
            **{f"reward_{name}": mean for name, mean in self.terms.items()},
            "score": sum(self.scores) / max(1, len(self.scores)),
            "sentences": sum(sentences[i] for i in self.kept) / count,
            "repetition": sum(rollouts.repetition[i] for i in self.kept) / count,
            "length": sum(self.lengths) / count,
            "truncated": sum(rollouts.truncated) / offered,
            "quarantined": sum(sentences[i] > 0 for i in refused) / offered,
            "empty": sum(number == 0 for number in sentences) / offered,
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


def _check(rollouts: FlatRollouts, i: int, scores: Sequence[float], examples: Mapping[str, Example]) -> None:
    row_id, sentences = rollouts.row_ids[i], len(rollouts.ends(i))
    if rollouts.pids[i] not in examples:
        raise AresError(f"Rollout {row_id} belongs to a problem that is not in the data; roll out afresh.")
    if len(scores) != sentences:
        raise AresError(
            f"Rollout {row_id} has {sentences} sentences and {len(scores)} scores; its feedback is of other rollouts, "
            "score them afresh."
        )
    if not scores or not all(0.0 <= score <= 1.0 for score in scores):
        raise AresError(f"The scores of rollout {row_id} are not numbers between 0 and 1; score it afresh.")
