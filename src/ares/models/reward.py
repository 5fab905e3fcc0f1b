"""Reward models: a policy's backbone with a head that reads the state after each sentence of a rationale."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from ares.models.heads import SharedBackboneValue, freeze_output, load_head, save_head, values_at
from ares.models.inputs import Inputs
from ares.models.policy import Policy, Trainable
from ares.models.reward_settings import RewardSettings
from ares.rl.masked import pad_right
from ares.storage.files import hash_of, sha256_path
from ares.text.prompts import rationale_target
from ares.types import Example

_LIKELIHOOD_WEIGHT = 8.0  # of 4, 6 and 8 the best calibrated one on the sample


class Reading(NamedTuple):
    """A rationale as a reward model reads it: its ids, EOS included, and for each sentence the token after its last one."""

    ids: list[int]
    places: list[int]


class RewardModel(Trainable):
    """A policy whose states a head reads; all that fine-tuning trains of the policy is trained with the head.

    The head's output is a logit: its sigmoid predicts the Teacher's score. With `likelihood`, 8 (p − ½) is added, where p is
    the geometric mean of the sentence's token probabilities, which the same states give: what a policy itself finds
    unlikely is often wrong. Unlike its logarithm, p is bounded, so that wrong labels of unlikely sentences do little harm.
    """

    def __init__(self, policy: Policy, value: SharedBackboneValue, *, likelihood: bool) -> None:
        super().__init__()
        self.policy, self.value = policy, value
        self.likelihood = likelihood
        if not likelihood:
            freeze_output(policy.model)

    @classmethod
    def on(cls, policy: Policy, *, seed: int, likelihood: bool = True) -> Self:
        """A reward model on the policy's own backbone, whose head gives every sentence the neutral score 0.5."""
        value = policy.new_value(seed=seed, shared=True)
        assert isinstance(value, SharedBackboneValue)
        return cls(policy, value, likelihood=likelihood)

    @classmethod
    def load(cls, policy_class: type[Policy], folder: Path, **reading: Any) -> Self:
        """The reward model in a folder, in eval mode, without dropout; `reading` as in `Policy.load`."""
        policy = policy_class.load(folder, dropout=0.0, **reading)
        model = cls.on(policy, seed=0, likelihood=RewardSettings.read(folder).likelihood)
        load_head(model.value.head, folder)
        return model.eval()

    def save(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Writes a folder that `load` opens: the policy, the head and `settings` (see `RewardSettings`)."""
        self.policy.save(folder)
        save_head(self.value.head, folder)
        known = {
            **settings,
            "likelihood": self.likelihood,
            "vocabulary": vocabulary_of(self.policy.tokenizer),
            "weights": sha256_path(folder),
        }
        RewardSettings(**known).write(folder)

    @property
    def blocks(self) -> list[nn.Module]:
        """The policy's."""
        return self.policy.blocks

    def lora_targets(self, targets: str) -> list[str]:
        """The policy's."""
        return self.policy.lora_targets(targets)

    def read(self, rationales: Sequence[Sequence[str]], *, max_tokens: int) -> list[Reading]:
        """Rationales, given as sentences without `Solution:`, as ids of at most `max_tokens`."""
        prefixes = [" ".join(own[: n + 1]) for own in rationales for n in range(max(1, len(own)))]
        examples = [Example("", rationale_target(text, self.policy.newline)) for text in prefixes]
        rows = iter(self.policy.encode_targets(examples, max_tokens=max_tokens))
        found = []
        for own in rationales:
            # Where a text that ends with a sentence has its EOS, the longer ones have the next token.
            ids = [next(rows) for _ in range(max(1, len(own)))]
            places = [len(row) - 1 for row in ids]
            found.append(Reading(ids[-1], places if own else []))
        return found

    def logits(self, inputs: Inputs, responses: Tensor, lengths: Sequence[int], sentences: Tensor) -> Tensor:
        """The logits (S,) float32 of sentences (S, 2) int64, each the row and the place of the token after its last one.

        `responses` (B, T) int64 of `lengths` tokens, EOS included, answer the B prompts; rows of one prompt share it.
        """
        rows, places = sentences.unbind(1)
        states = self.policy.states(inputs, responses, lengths)
        found = values_at(self.value.head, states[rows, places])
        if not self.likelihood:
            return found
        logprobs, _ = self.policy.logprobs(states, responses, lengths)
        return found + _LIKELIHOOD_WEIGHT * (sentence_means(logprobs, sentences).exp() - 0.5)

    @torch.no_grad()
    def scores(
        self, examples: Sequence[Example], readings: Sequence[Sequence[Reading]]
    ) -> list[list[list[float]]]:
        """Scores in [0, 1] of the sentences of each example's rationales, in one forward pass."""
        device, flat = self.device, [reading for own in readings for reading in own]
        question = [number for number, own in enumerate(readings) for _ in own]
        inputs = self.policy.encode(examples).select(question).to(device)
        responses = pad_right([reading.ids for reading in flat], self.policy.pad_id).to(device)
        lengths = [len(reading.ids) for reading in flat]
        sentences = sentences_of_rows([reading.places for reading in flat]).to(device)
        found = iter(self.logits(inputs, responses, lengths, sentences).sigmoid().tolist())
        return [[[next(found) for _ in reading.places] for reading in own] for own in readings]


def sentences_of_rows(places: Sequence[Sequence[int]]) -> Tensor:
    """The places of each row's sentences as (S, 2) int64: row and place."""
    found = [(row, place) for row, own in enumerate(places) for place in own]
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 2)


def sentence_means(values: Tensor, sentences: Tensor) -> Tensor:
    """The mean (S,) of token values (B, T) over each of sentences (S, 2), which start where the one before them ends."""
    rows, places = sentences.unbind(1)
    sums = F.pad(values, (1, 0)).cumsum(1)
    previous = torch.cat([places.new_zeros(1), places[:-1]])[: len(places)]
    follows = torch.cat([rows.new_full((1,), -1), rows[:-1]])[: len(rows)] == rows
    starts = torch.where(follows, previous, torch.zeros_like(places))
    return (sums[rows, places] - sums[rows, starts]) / (places - starts).clamp(min=1)


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of a tokenizer's entries: models with different ones cannot read each other's tokens."""
    return hash_of(sorted(tokenizer.get_vocab().items()))
