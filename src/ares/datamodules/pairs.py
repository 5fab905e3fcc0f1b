"""Preference pairs as a buffer: rows are pairs, each with its two responses to one prompt."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor

from ares.config.preference import DdpoConfig
from ares.datamodules.rollouts import BufferData
from ares.models.inputs import Inputs
from ares.models.policy import Policy
from ares.rl.masked import pad_right
from ares.rl.preference import token_weights
from ares.types import AresError, Example, Pair, Side


class PairBatch(TypedDict):
    """B pairs as 2B sides, the chosen ones first, and the U different responses among them; T tokens of the longest.

    `response_ids` (U, T) int64 with `lengths` tokens each, of the prompts `inputs`; `responses` (2B,) int64: which of them
    each side is. `response_mask`, `ref_logprobs` and `weights` (of tokens in a response's sum, 0 on padding) (2B, T) float32;
    `real` (B,) float32, 0 for a pair that counts for nothing. `mismatched_ref` (B,) float64: the reference's sums of
    `PairBuffer.mismatched`, 0 where they are not known.
    """

    inputs: Inputs
    response_ids: Tensor
    lengths: list[int]
    responses: Tensor
    response_mask: Tensor
    ref_logprobs: Tensor
    weights: Tensor
    real: Tensor
    mismatched_ref: Tensor


class PairMicroBatch(PairBatch):
    """A batch that is trained on; `denominator`: the pairs of its optimizer batch, on all ranks."""

    denominator: float


class PairBuffer:
    """Pairs with stored reference log-probabilities; `train`, `heldout` are their rows by kind of question."""

    def __init__(
        self,
        policy: Policy,
        examples: Mapping[str, Example],
        pairs: Sequence[Pair],
        *,
        heldout: Iterable[str] = (),
        weighting: DdpoConfig | None = None,
    ) -> None:
        """`examples` by pid; pairs of the questions `heldout` are measured and never trained on.

        With `weighting` tokens count as in DDPO, else each counts 1. Raises AresError where pairs do not match the data,
        have no reference log-probabilities, or nothing is left to train on.
        """
        for pair in pairs:
            _check(pair, examples)
        self.pairs, held = pairs, frozenset(heldout)
        self.heldout = [row for row, pair in enumerate(pairs) if pair.pid in held]
        self.train = [row for row, pair in enumerate(pairs) if pair.pid not in held]
        if not self.train:
            raise AresError(
                f"All {len(pairs)} pairs are of held-out questions, so none is left to train on; lower prefer.holdout."
            )
        number = {pid: number for number, pid in enumerate(dict.fromkeys(pair.pid for pair in pairs))}
        self.question = [number[pair.pid] for pair in pairs]
        self.inputs, self.pad_id = policy.encode([examples[pid] for pid in number]), policy.pad_id
        self.lengths = [len(pair.chosen.token_ids) + len(pair.rejected.token_ids) for pair in pairs]
        self.weights = [_weights(pair, weighting) for pair in pairs]
        self.mismatched_ref = torch.zeros(len(pairs), dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.pairs)

    def groups(self, rows: Iterable[int] | None = None) -> list[list[int]]:
        """The rows (None: all) of each question, in order."""
        groups: dict[int, list[int]] = {}
        for row in range(len(self)) if rows is None else rows:
            groups.setdefault(self.question[row], []).append(row)
        return list(groups.values())

    def batch(self, rows: Sequence[int]) -> PairBatch:
        """The given pairs for a forward pass; no rows give one whose mask, weights and `real` are 0."""
        chosen = list(rows) or [min(range(len(self)), key=self.lengths.__getitem__)]
        sides = [self.pairs[row].chosen for row in chosen] + [self.pairs[row].rejected for row in chosen]
        weights = [self.weights[row][0] for row in chosen] + [self.weights[row][1] for row in chosen]
        own = [(self.question[row], side.token_ids) for row, side in zip(chosen * 2, sides, strict=True)]
        different = {response: number for number, response in enumerate(dict.fromkeys(own))}
        counts = float(bool(rows))
        return {
            "inputs": self.inputs.select([question for question, _ in different]),
            "response_ids": pad_right([ids for _, ids in different], self.pad_id),
            "lengths": [len(ids) * bool(rows) for _, ids in different],
            "responses": torch.tensor([different[response] for response in own]),
            "response_mask": pad_right([[counts] * len(side.token_ids) for side in sides], 0.0),
            "ref_logprobs": pad_right([side.ref_logprobs or () for side in sides], 0.0),
            "weights": pad_right(weights, 0.0) * counts,
            "real": torch.full((len(chosen),), counts),
            "mismatched_ref": self.mismatched_ref[chosen],
        }

    def mismatched(self, rows: Sequence[int]) -> tuple[Inputs, Tensor, Tensor, list[int]]:
        """The prompts of pairs, each with a chosen response to another prompt: inputs, ids (B, T), mask (B, T), lengths."""
        others = [self.pairs[self._other(row)].chosen.token_ids for row in rows]
        inputs = self.inputs.select([self.question[row] for row in rows])
        mask = pad_right([[1.0] * len(ids) for ids in others], 0.0)
        return inputs, pad_right(others, self.pad_id), mask, list(map(len, others))

    def _other(self, row: int) -> int:
        """The next pair that answers another prompt."""
        following = (i % len(self) for i in range(row + 1, row + len(self)))
        found = next((other for other in following if self.question[other] != self.question[row]), None)
        if found is None:
            raise AresError(
                "prefer.loss=kto compares responses to different questions; all pairs are of one."
            )
        return found


class PairData(BufferData[PairBuffer]):
    """Micro-batches of pairs: batch sizes and denominators count pairs."""

    def count(self, rows: Sequence[int]) -> int:
        """The pairs of an optimizer batch."""
        return len(rows)


def _weights(pair: Pair, weighting: DdpoConfig | None) -> tuple[list[float], list[float]]:
    chosen, rejected = pair.chosen.token_ids, pair.rejected.token_ids
    if weighting is None:
        return [1.0] * len(chosen), [1.0] * len(rejected)
    up, down = token_weights(chosen, rejected, **vars(weighting))
    return up.tolist(), down.tolist()


def _check(pair: Pair, examples: Mapping[str, Example]) -> None:
    if pair.pid not in examples:
        raise AresError(
            f"Pair {pair.row_id} belongs to a problem that is not in the data; make pairs afresh."
        )
    sides: tuple[Side, Side] = (pair.chosen, pair.rejected)
    if not all(side.token_ids for side in sides) or sides[0].token_ids == sides[1].token_ids:
        raise AresError(f"Pair {pair.row_id} has an empty response or the same one twice; leave it out.")
    for side in sides:
        if side.ref_logprobs is None or len(side.ref_logprobs) != len(side.token_ids):
            raise AresError(
                f"Pair {pair.row_id} does not have one reference log-probability per token; make pairs afresh."
            )
