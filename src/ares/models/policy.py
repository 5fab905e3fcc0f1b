"""The policy: everything that the rest of the suite knows about a language model.

B prompts, T response tokens, D the model's width, V its vocabulary; responses are right-padded. A response holds its
EOS if one was written and no padding; one without EOS was truncated.
"""

import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ares.models.continuing import continued
from ares.models.graphs import capture_of
from ares.models.inputs import Inputs, Sample, Sampling
from ares.models.logprobs import logprobs_of
from ares.models.memory import ModelSize
from ares.models.precision import half_on_gpu
from ares.models.sampling import Choose, drawn, most_likely, uniforms_of
from ares.models.scheduling import CHECK_EVERY, Decoder, write
from ares.models.trainable import Trainable, ValueModel
from ares.text.decoding import decode_ids
from ares.text.sentences import sentence_spans
from ares.types import Example, Span


class Policy(Trainable):
    """A language model that writes text, and the probabilities it gives to text."""

    tokenizer: PreTrainedTokenizerBase
    newline: str
    shortened: int = 0  # prompts whose context `encode` had to shorten so far
    task_type: ClassVar[str]  # PEFT's name for the kind of network
    original: ClassVar[bool] = False  # whether `ares.original` writes such models in the original's layout

    @classmethod
    @abstractmethod
    def start(
        cls,
        settings: Mapping[str, Any],
        texts: Sequence[str],
        *,
        tokenizer: Mapping[str, Any],
        seed: int,
        **reading: Any,
    ) -> Self:
        """The model that fine-tuning starts from, as `conf/model` describes it; `reading` as in `load`.

        `tokenizer` holds the `path` of a tokenizer (None: the model's own) and the `vocab_size` of one that is trained
        on `texts` for a model from scratch.
        """

    @classmethod
    @abstractmethod
    def load(cls, folder: Path | str, *, dropout: float, **reading: Any) -> Self:
        """The policy in a folder, in eval mode with the given dropout rate.

        `reading`: `features` (image features by problem, or None), `max_input_tokens`, `newline` (the rule from ids
        to text) and `checkpointing` (activations are recomputed in the backward pass). Raises AresError where the
        folder holds no such policy.
        """

    @classmethod
    def check_prompts(
        cls,
        settings: Mapping[str, Any],
        texts: Sequence[str],
        examples: Sequence[Example],
        *,
        tokenizer: Mapping[str, Any],
        max_input_tokens: int,
    ) -> int:
        """How many prompts `encode` will shorten; raises AresError for one that it would refuse. Arguments as in `start`."""
        return 0

    @classmethod
    @abstractmethod
    def size(cls, settings: Mapping[str, Any], vocabulary: int) -> ModelSize | None:
        """The size of the model that `conf/model` describes; None if it would have to be downloaded first."""

    @classmethod
    def feature_dim(cls, path: Path | str, **where: Any) -> int | None:
        """The numbers per patch of a checkpoint's image features, None without any; `where` as in `from_pretrained`."""
        return None

    @staticmethod
    def export(folder: Path, target: Path) -> list[str]:
        """Writes a folder's policy as a model that opens without this package, by default a copy; returns warnings."""
        shutil.copytree(folder, target, dirs_exist_ok=True)
        return []

    @staticmethod
    def bundle(folder: Path, target: Path) -> None:
        """Copies the policy in a folder with all that `load` needs, so that the copy works on another machine."""
        shutil.copytree(folder, target, dirs_exist_ok=True)

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes a folder that `load` opens, with dropout 0."""

    @abstractmethod
    def sibling(self, folder: Path) -> "Policy":
        """The policy in another folder, frozen, on this one's device; it may share this one's network."""

    @abstractmethod
    def adapt(self, *, r: int, alpha: int, dropout: float, targets: str, seed: int) -> None:
        """Puts a fresh adapter for answers on the policy, in place, drawn from `seed`; only the adapter is trained.

        With `r=0` there is no adapter, and all weights are trained.
        """

    @abstractmethod
    def save_adapter(self, folder: Path) -> None:
        """Writes what `adapt` lets train: `adapter_config.json` and `adapter_model.safetensors`, or the full policy."""

    @abstractmethod
    def answerer(self, folder: Path) -> "Policy":
        """The policy with an adapter that `save_adapter` wrote, frozen; this one stays as it is, for use in turn."""

    @abstractmethod
    def new_value(self, *, seed: int, shared: bool) -> ValueModel:
        """A value model that predicts 0: on a copy of this policy's backbone, or on the backbone itself (`shared`)."""

    @abstractmethod
    def load_value(self, folder: Path, *, shared: bool) -> ValueModel:
        """The value model in a folder; with `shared` its head on this policy's backbone."""

    @abstractmethod
    def encode(self, examples: Sequence[Example]) -> Inputs:
        """The prompts of examples, with their images.

        Of a prompt that is too long, the context is shortened (see `ares.text.prompts.fitted`), never options or cue.
        Raises AresError, with the problem, for one that is too long without it.
        """

    @abstractmethod
    def encode_targets(self, examples: Sequence[Example], *, max_tokens: int) -> list[list[int]]:
        """The targets of examples as responses, cut to `max_tokens` with EOS kept as the last one."""

    @abstractmethod
    def decoder(self, inputs: Inputs, *, k: int, longest: int) -> Decoder:
        """What writes k responses of at most `longest` tokens per prompt, in eval mode."""

    @property
    def banned(self) -> list[int]:
        """Tokens that are never written: padding could not be distinguished from padding after a response."""
        return [self.pad_id]

    def greedy(self, inputs: Inputs, *, max_new_tokens: int, **how: Any) -> list[list[int]]:
        """The most likely token at each step: B responses; `how` as in `write`."""
        choose = most_likely(self.banned, self.device)
        written = self.write(inputs, choose, [max_new_tokens] * len(inputs), **how)
        return [sample.ids for sample in written]

    def sample(
        self, inputs: Inputs, *, k: int, max_new_tokens: int, seed: int, sampling: Sampling, **how: Any
    ) -> list[Sample]:
        """k samples per prompt, B·k in all: entry i·k + j is sample j of prompt i, a function of `seed` and i·k + j."""
        rows = len(inputs) * k
        uniforms = uniforms_of(seed, rows, max_new_tokens + CHECK_EVERY).to(self.device)
        choose = drawn(sampling, uniforms, self.banned)
        return self.write(inputs, choose, [max_new_tokens] * rows, k=k, **how)

    def continuations(
        self,
        inputs: Inputs,
        prefixes: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        seed: int,
        sampling: Sampling,
        **how: Any,
    ) -> list[list[int]]:
        """A sample per prompt that begins with its prefix, of at most `max_new_tokens` in all; as `sample` otherwise."""
        uniforms = uniforms_of(seed, len(inputs), max_new_tokens + CHECK_EVERY).to(self.device)
        choose = drawn(sampling, uniforms, self.banned)
        return continued(self, inputs, prefixes, choose, longest=max_new_tokens, **how)

    def write(
        self, inputs: Inputs, choose: Choose, limits: Sequence[int], *, k: int = 1, **how: Any
    ) -> list[Sample]:
        """k responses per prompt, chosen by `choose` and at most as long as their `limits`; `how` as in `scheduling.write`."""
        how = {"eos": int(self.tokenizer.eos_token_id), "capture": capture_of(self), **how}
        with self.frozen(), half_on_gpu(self):
            longest = max(limits, default=0) + CHECK_EVERY
            decoder = self.decoder(inputs.to(self.device), k=k, longest=longest)
            return write(decoder, inputs.lengths, choose, limits, k=k, device=self.device, **how)

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
    def states(self, inputs: Inputs, responses: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        """The state before each response token, from which the token is predicted: (B, T, D) from (B, T) int64 ids.

        Rows with the same prompt share its computation. `lengths`: the tokens of each response, whose padding
        need not be computed; its states have no meaning.
        """

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """Next-token logits (..., V) from states (..., D)."""

    def logprobs(
        self, states: Tensor, responses: Tensor, lengths: Sequence[int], *, entropy: bool = False
    ) -> tuple[Tensor, Tensor]:
        """log π(token t | prompt, image, tokens before t) at temperature 1 and, with `entropy`, the entropy of each token.

        `states` (B, T, D), `responses` (B, T) int64 of `lengths` tokens. Both (B, T) float32, nats, 0 on padding. The
        log-probabilities are differentiable, the entropy is not.
        """
        return logprobs_of(
            self.logits, states, responses, lengths, vocabulary=len(self.tokenizer), entropy=entropy
        )

    def token_logprobs(self, inputs: Inputs, responses: Tensor, lengths: Sequence[int]) -> Tensor:
        """`logprobs` (B, T) of responses to prompts, in one forward pass."""
        return self.logprobs(self.states(inputs, responses, lengths), responses, lengths)[0]

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
