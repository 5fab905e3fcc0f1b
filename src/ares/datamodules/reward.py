"""What a reward model is trained on: questions whose rationales have scored sentences, and pairs of rationales."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from statistics import fmean
from typing import Any, TypedDict

import torch
from torch import Tensor

from ares.datamodules.supervised import SupervisedData
from ares.models.inputs import Inputs
from ares.models.reward import Reading, sentences_of_rows
from ares.rl.masked import pad_right
from ares.types import AresError

# A question and its rationales, each as sentences without `Solution:`, with their scores; or a pair, chosen first.
Labels = tuple[str, Sequence[Sequence[str]], Sequence[Sequence[float]] | None]


@dataclass(frozen=True)
class Item:
    """Rationales of one question: with a score per sentence or, where `scores` is None, a pair, chosen first."""

    pid: str
    readings: Sequence[Reading]
    scores: Sequence[Sequence[float]] | None

    @property
    def labels(self) -> int:
        """Scored sentences, or the one pair."""
        return 1 if self.scores is None else sum(map(len, self.scores))

    @property
    def flat_scores(self) -> list[float]:
        """The score of each sentence of all rationales, NaN in a pair."""
        if self.scores is None:
            return [torch.nan for reading in self.readings for _ in reading.places]
        return [score for own in self.scores for score in own]

    @property
    def ranked(self) -> list[tuple[int, int]]:
        """Two scored rationales each, that with the higher mean score first; none of equal means."""
        means = [(fmean(own), number) for number, own in enumerate(self.scores or ()) if own]
        pairs = combinations(sorted(means, reverse=True), 2)
        return [(a, b) for (better, a), (worse, b) in pairs if better > worse]


class RewardBatch(TypedDict):
    """B rationales of some items, with S sentences in all and P pairs; T tokens, EOS included.

    `response_ids` (B, T) int64, `lengths`: the tokens of each, `sentences` (S, 2) int64: row and place;
    `scores` (S,) float32, NaN where there is none; `pairs` (P, 2) int64: the rows of chosen and rejected;
    `ranked` (R, 2) int64: rows of one question, the one with the higher mean score first, to measure with; `denominator`:
    the labels of the optimizer batch, on all ranks.
    """

    inputs: Inputs
    response_ids: Tensor
    lengths: list[int]
    sentences: Tensor
    scores: Tensor
    pairs: Tensor
    ranked: Tensor
    denominator: int


@dataclass(frozen=True)
class LabeledItems:
    """Items with the prompt of each."""

    inputs: Inputs
    items: Sequence[Item]

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of the prompt and of all its rationales."""
        tokens = [sum(len(reading.ids) for reading in item.readings) for item in self.items]
        return [a + b for a, b in zip(self.inputs.lengths, tokens, strict=True)]

    @cached_property
    def weights(self) -> list[int]:
        """Labels of each item: every scored sentence and every pair counts the same."""
        return [item.labels for item in self.items]

    def batch(self, rows: Sequence[int], denominator: int, pad_id: int) -> RewardBatch:
        """The given items for a forward pass; no rows give a batch without any label."""
        chosen = [self.items[row] for row in rows or [0]]
        readings = [reading for item in chosen for reading in item.readings]
        question = [row for row, item in zip(rows or [0], chosen, strict=True) for _ in item.readings]
        scores: list[float] = []
        pairs: list[tuple[int, int]] = []
        ranked: list[tuple[int, int]] = []
        first = 0
        for item in chosen:
            scores += item.flat_scores if rows else [torch.nan] * len(item.flat_scores)
            if rows:
                pairs += [(first, first + 1)] if item.scores is None else []
                ranked += [(first + a, first + b) for a, b in item.ranked]
            first += len(item.readings)
        return {
            "inputs": self.inputs.select(question),
            "response_ids": pad_right([reading.ids for reading in readings], pad_id),
            "lengths": [len(reading.ids) for reading in readings],
            "sentences": sentences_of_rows([reading.places for reading in readings]),
            "scores": torch.tensor(scores, dtype=torch.float32),
            "pairs": torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
            "ranked": torch.tensor(ranked, dtype=torch.int64).reshape(-1, 2),
            "denominator": denominator,
        }


class RewardData(SupervisedData):
    """Labels of some questions to train on, and of held-out ones to measure on.

    `encode(pids)` gives the prompts of questions, one each; `read(rationales)` what the model reads of rationales.
    """

    train: LabeledItems
    val: LabeledItems

    def __init__(
        self,
        labels: Sequence[Labels],
        held_out: Sequence[Labels],
        *,
        encode: Callable[[Sequence[str]], Inputs],
        read: Callable[[Sequence[Sequence[str]]], list[Reading]],
        **batches: Any,
    ) -> None:
        super().__init__(**batches)
        if not labels:
            raise AresError(
                "There is nothing to train the reward model on: every label is of a held-out question; lower reward.holdout."
            )
        self.train, self.val = (_items(part, encode, read) for part in (labels, held_out))


def _items(
    labels: Sequence[Labels],
    encode: Callable[[Sequence[str]], Inputs],
    read: Callable[[Sequence[Sequence[str]]], list[Reading]],
) -> LabeledItems:
    readings = iter(read([rationale for _, rationales, _ in labels for rationale in rationales]))
    items = [Item(pid, [next(readings) for _ in rationales], scores) for pid, rationales, scores in labels]
    number: Mapping[str, int] = {pid: n for n, pid in enumerate(dict.fromkeys(item.pid for item in items))}
    inputs = encode(list(number))
    return LabeledItems(inputs.select([number[item.pid] for item in items]), items)
