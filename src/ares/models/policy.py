"""The policy: everything that the rest of the suite knows about a language model.

B prompts, T response tokens, D the model's width, V its vocabulary; responses are right-padded. A response holds its
EOS if one was written and no padding; one without EOS was truncated.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from ares.text.decoding import decode_ids
from ares.text.sentences import sentence_spans
from ares.types import Example, Span


class Inputs(Protocol):
    """Encoded prompts with their images, opaque outside the policy that made them."""

    @property
    def lengths(self) -> Sequence[int]:
        """The number of tokens of each prompt."""
        ...

    def __len__(self) -> int: ...

    def select(self, rows: Sequence[int]) -> Self:
        """The prompts of the given rows, in their order."""
        ...

    def repeat(self, k: int) -> Self:
        """Each prompt k times in succession."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """The same prompts on a device."""
        ...


@dataclass(frozen=True)
class Sampling:
    """Filters of sampling; the defaults sample from the policy itself."""

    top_k: int = 0
    top_p: float = 1.0
    temperature: float = 1.0


@dataclass(frozen=True)
class ModelSize:
    """A model's size: number of weights, width, layers (encoder and decoder together) and vocabulary."""

    parameters: int
    width: int
    layers: int
    vocabulary: int


class Trainable(nn.Module, ABC):
    """A policy or a value model, as adapters and sharding see it."""

    model: Any  # the network, of any class; with an adapter, PEFT's wrapper of it

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The layers that are sharded one by one; none on another model's backbone."""

    @abstractmethod
    def lora_targets(self, targets: str) -> list[str]:
        """The names, within `model`, of the linear layers that an adapter trains: `all`, or the `paper`'s list.

        None on another model's backbone.
        """


class ValueModel(Trainable):
    """Predicts the sum of the rewards that follow each state of a response."""

    @abstractmethod
    def values(self, inputs: Inputs, responses: Tensor, mask: Tensor, states: Tensor | None = None) -> Tensor:
        """The value of the state before each response token: (B, T) float32, 0 on padding.

        `responses` (B, T) int64, `mask` (B, T). A model that shares the policy's backbone reads the policy's `states`
        (B, T, D) where they are given.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes a folder that the policy's `load_value` opens."""


class Policy(Trainable):
    """A language model that writes text, and the probabilities it gives to text."""

    tokenizer: PreTrainedTokenizerBase
    newline: str
    task_type: ClassVar[str]  # PEFT's name for the kind of network

    @classmethod
    @abstractmethod
    def start(
        cls, settings: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, *, seed: int, **reading: Any
    ) -> Self:
        """The model that fine-tuning starts from, as `conf/model` describes it; `reading` as in `load`."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path | str, *, dropout: float, **reading: Any) -> Self:
        """The policy in a folder, in eval mode with the given dropout rate.

        `reading`: `features` (image features by problem, or None), `max_input_tokens` and `newline` (the rule from ids
        to text). Raises AresError where the folder holds no such policy.
        """

    @classmethod
    @abstractmethod
    def size(cls, settings: Mapping[str, Any], vocabulary: int) -> ModelSize | None:
        """The size of the model that `conf/model` describes; None if it would have to be downloaded first."""

    @classmethod
    @abstractmethod
    def feature_dim(cls, path: Path | str, **where: Any) -> int | None:
        """The numbers per patch of the image features that a checkpoint was trained with; None without any.

        `where` holds the hub's arguments of `from_pretrained`.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes a folder that `load` opens, with dropout 0."""

    @abstractmethod
    def new_value(self, *, seed: int, shared: bool) -> ValueModel:
        """A value model that predicts 0: on a copy of this policy's backbone, or on the backbone itself (`shared`)."""

    @abstractmethod
    def load_value(self, folder: Path, *, shared: bool) -> ValueModel:
        """The value model in a folder; with `shared` its head on this policy's backbone."""

    @abstractmethod
    def encode(self, examples: Sequence[Example]) -> Inputs:
        """The prompts of examples, with their images."""

    @abstractmethod
    def encode_targets(self, examples: Sequence[Example], *, max_tokens: int) -> list[list[int]]:
        """The targets of examples as responses, cut to `max_tokens` with EOS kept as the last one."""

    @abstractmethod
    def greedy(self, inputs: Inputs, *, max_new_tokens: int) -> list[list[int]]:
        """The most likely token at each step: B responses."""

    @abstractmethod
    def sample(
        self, inputs: Inputs, *, k: int, max_new_tokens: int, generator: torch.Generator, sampling: Sampling
    ) -> list[list[int]]:
        """k sampled responses per prompt, B·k in all: entry i·k + j is sample j of prompt i.

        `generator` lives on the policy's device and advances, so that the next call draws afresh.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a response: the one rule from ids to text."""
        return decode_ids(self.tokenizer, ids, newline=self.newline)

    def sentences(self, ids: Sequence[int]) -> tuple[str, list[Span], list[int]]:
        """The text of a response, its sentences, and the index of the last token of each (`sentence_spans`)."""
        return sentence_spans(self.tokenizer, ids, newline=self.newline)

    @property
    def pad_id(self) -> int:
        """The id that pads responses."""
        return int(self.tokenizer.pad_token_id)

    def is_truncated(self, ids: Sequence[int]) -> bool:
        """Whether a response ends without EOS."""
        return self.tokenizer.eos_token_id not in ids

    @abstractmethod
    def states(self, inputs: Inputs, responses: Tensor) -> Tensor:
        """The state before each response token, from which the token is predicted: (B, T, D) from (B, T) int64 ids."""

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """Next-token logits (..., V) from states (..., D)."""

    def logprobs(
        self, states: Tensor, responses: Tensor, mask: Tensor, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor]:
        """log π(token t | prompt, image, tokens before t) at temperature 1 and, with `entropy`, the entropy of each token.

        `states` (B, T, D), `responses` (B, T) int64, `mask` (B, T). Both (B, T) float32, nats, 0 on padding. The
        log-probabilities are differentiable, the entropy is not.
        """
        real = mask.bool()
        # The (tokens, V) logits are by far the largest tensor here: none are computed for padding.
        logits = at_least_float32(self.logits(states[real]))
        zeros = torch.zeros(responses.shape, dtype=logits.dtype, device=states.device)
        logprobs = zeros.masked_scatter(real, -F.cross_entropy(logits, responses[real], reduction="none"))
        if not entropy:
            return logprobs, zeros
        known = logits.detach()
        spread = known.logsumexp(-1) - (known.softmax(-1) * known).sum(-1)
        return logprobs, zeros.masked_scatter(real, spread)

    def token_logprobs(self, inputs: Inputs, responses: Tensor, mask: Tensor) -> Tensor:
        """`logprobs` (B, T) of responses to prompts, in one forward pass."""
        return self.logprobs(self.states(inputs, responses), responses, mask)[0]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Without gradients and dropout; afterwards every module is in the mode it was in."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, training in modes:
                module.training = training


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32 or, where it already is, float64: the least that probabilities and values need."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
