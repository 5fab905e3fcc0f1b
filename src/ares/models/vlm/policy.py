"""A vision-language model as a policy: all its weights, or a LoRA adapter on a base that is never changed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ares.models.adapters import AdapterSet
from ares.models.chat import Chat, ChatPolicy
from ares.models.inputs import Sample
from ares.models.policy import ModelSize, Policy, ValueModel
from ares.models.vlm.batches import write_in_batches
from ares.models.vlm.export import bundle_policy, export_policy
from ares.models.vlm.families import blocks_of, lora_pattern, matching, soft_cap
from ares.models.vlm.generation import VlmDecoder, has_cohorts
from ares.models.vlm.loading import VlmSettings, freeze, open_network, save_model, start_network, start_reader
from ares.models.vlm.processors import open_processor, reader_of
from ares.models.vlm.reader import VlmInputs, VlmReader
from ares.models.vlm.running import checkpoint_activations, response_states
from ares.models.vlm.size import vlm_size
from ares.models.vlm.value import load_value, new_value
from ares.models.weights import without_bars
from ares.types import Example

POLICY, REFERENCE, ANSWER = "policy", "reference", "answer"


class VlmPolicy(ChatPolicy):
    """A network, the adapter that is this policy (None: the network itself), and the reader of its inputs.

    Several policies may share one network and differ in the adapter.
    """

    task_type = "CAUSAL_LM"
    export = staticmethod(export_policy)
    bundle = staticmethod(bundle_policy)

    def __init__(
        self,
        adapters: AdapterSet,
        reader: VlmReader,
        settings: VlmSettings,
        *,
        adapter: str | None,
        newline: str = "space",
    ) -> None:
        super().__init__()
        self.model: Any = adapters.network
        self.adapters, self.adapter, self.settings = adapters, adapter, settings
        self.reader, self.tokenizer, self.newline = reader, reader.tokenizer, newline

    @classmethod
    def start(
        cls,
        settings: Mapping[str, Any],
        texts: Sequence[str],
        *,
        tokenizer: Mapping[str, Any],
        seed: int,
        dropout: float = 0.0,
        **reading: Any,
    ) -> Self:
        """The model in `settings["init"]` with a fresh adapter or, without `init`, a small one drawn from `seed`."""
        own = VlmSettings.of(settings)
        network, processor = start_network(own, settings, texts, tokenizer, seed=seed, dropout=dropout)
        return cls._of(network, processor, own, seed=seed, dropout=dropout, **reading)

    @classmethod
    def _of(
        cls,
        network: Any,
        processor: Any,
        settings: VlmSettings,
        *,
        folder: Path | None = None,
        seed: int = 0,
        dropout: float = 0.0,
        max_input_tokens: int = 2048,
        newline: str = "space",
        checkpointing: bool = False,
        **_: Any,
    ) -> Self:
        """The policy on a network, with the adapter of a folder or a fresh one if it is an adapter's."""
        freeze(network, settings.lora)
        adapters, lora = AdapterSet(network), settings.lora
        reader = reader_of(processor, network.config.model_type, settings, max_input_tokens=max_input_tokens)
        policy = cls(adapters, reader, settings, adapter=POLICY if lora.r else None, newline=newline)
        if lora.r and folder is None:
            pattern = lora_pattern(lora.targets, lora.vision)
            adapters.add(POLICY, pattern, r=lora.r, alpha=lora.alpha, dropout=dropout, seed=seed)
        elif lora.r and folder is not None:
            adapters.load(POLICY, folder, dropout=dropout)
        if checkpointing:
            checkpoint_activations(network, adapters)
        return policy.eval()

    @classmethod
    def load(cls, folder: Path | str, *, dropout: float, **reading: Any) -> Self:
        """The policy in a folder: an adapter with its base, or a complete model (see `ares.models.vlm.loading`)."""
        settings = VlmSettings.read(folder := Path(folder))
        network = open_network(settings.base or folder, settings, dropout=dropout)
        return cls._of(network, open_processor(folder), settings, folder=folder, dropout=dropout, **reading)

    def sibling(self, folder: Path) -> Policy:
        """The policy in another folder, frozen; on this policy's network where both are adapters of one base."""
        other, own = VlmSettings.read(folder), self.settings
        if not self.adapter or (other.base, other.quantization) != (own.base, own.quantization):
            reading = {"newline": self.newline, "max_input_tokens": self.reader.max_input_tokens}
            return self.load(folder, dropout=0.0, **reading).to(self.device)
        self.adapters.load(REFERENCE, folder, trained=False)
        return self.view(REFERENCE)

    def view(self, adapter: str) -> "VlmPolicy":
        """Another adapter of the same network as a policy."""
        self.model.to(self.device)
        return VlmPolicy(self.adapters, self.reader, self.settings, adapter=adapter, newline=self.newline)

    @classmethod
    def size(cls, settings: Mapping[str, Any], vocabulary: int) -> ModelSize | None:
        """The size of the model (see `vlm_size`)."""
        return vlm_size(settings, vocabulary)

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
        """How many contexts are too long. Raises AresError for a question that is, or an image that cannot be read."""
        reader = start_reader(settings, texts, tokenizer, max_input_tokens=max_input_tokens)
        for example in examples:
            reader.encode([example])
        return reader.shortened

    @without_bars()
    def save(self, folder: Path) -> None:
        """Writes the adapter or, if all weights are trained, the complete model; the processor; `policy.json`."""
        self.reader.save(folder)
        if self.adapter is not None:
            self.adapters.save(self.adapter, folder, base=self.settings.base)
            self.settings.write(folder)
            return
        save_model(self.model, self.settings, folder)

    def adapt(self, *, r: int, alpha: int, dropout: float, targets: str, seed: int) -> None:
        """Becomes a fresh adapter for answers on the policy's base, or on the policy itself if that is all weights."""
        self.model.requires_grad_(False)
        pattern = lora_pattern(self.settings.lora.targets, False)
        self.adapters.add(ANSWER, pattern, r=r, alpha=alpha, dropout=dropout, seed=seed)
        self.adapter = ANSWER

    def save_adapter(self, folder: Path) -> None:
        """Writes the answer adapter in PEFT's format."""
        self.adapters.save(ANSWER, folder, base=self.settings.base)

    def answerer(self, folder: Path) -> Policy:
        """The answer adapter of a folder as a policy on the same network, frozen."""
        self.adapters.load(ANSWER, folder, trained=False)
        return self.view(ANSWER)

    def new_value(self, *, seed: int, shared: bool) -> ValueModel:
        """A value model that predicts 0: a second adapter on the same network, or a copy of a policy of all weights."""
        return new_value(self, seed=seed, shared=shared)

    def load_value(self, folder: Path, *, shared: bool) -> ValueModel:
        """The value model in a folder; with `shared` its head on this policy's states."""
        return load_value(self, folder, shared=shared)

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights of this policy's adapter or, without one, those of the network that are not frozen."""
        if self.adapter is not None:
            return iter(self.adapters.weights(self.adapter))
        own = self.model.named_parameters()
        return ((name, p) for name, p in own if p.requires_grad and "lora_" not in name)

    def chat(self, example: Example) -> Chat:
        """The example's prompt as chat messages, with the images that the policy sees."""
        return self.reader.chat(example)

    def encode(self, examples: Sequence[Example]) -> VlmInputs:
        """The prompts of examples with their images (see `VlmReader.encode`)."""
        inputs, self.shortened = self.reader.encode(examples), self.reader.shortened
        return inputs

    def encode_targets(self, examples: Sequence[Example], *, max_tokens: int) -> list[list[int]]:
        """The targets as ids, cut to `max_tokens` with EOS kept as the last one."""
        return self.reader.encode_targets(examples, max_tokens=max_tokens)

    @property
    def banned(self) -> list[int]:
        """All special tokens but EOS: a sampled image token would stand for an image that is not there."""
        return [token for token in self.reader.special_ids if token != self.tokenizer.eos_token_id]

    def decoder(self, inputs: VlmInputs, *, k: int, longest: int) -> VlmDecoder:  # type: ignore[override]
        """See `VlmDecoder`."""
        return VlmDecoder(self, inputs, k=k, longest=longest)

    def write(self, inputs: VlmInputs, *given: Any, **how: Any) -> list[Sample]:  # type: ignore[override]
        """See `Policy.write`; by batches where rows of different ages cannot be computed together."""
        with self.adapters.using(self.adapter):
            if has_cohorts(self.model):
                return super().write(inputs, *given, **how)
            eos = int(self.tokenizer.eos_token_id)
            with self.frozen():
                return write_in_batches(self.model, inputs.to(self.device), *given, eos=eos, **how)

    # -------------------------------------------------------------------------------- probabilities

    def states(  # type: ignore[override]
        self, inputs: VlmInputs, responses: Tensor, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """The last hidden states (B, T, D) before each response token, teacher-forced."""
        with self.adapters.using(self.adapter):
            return response_states(
                self.model, inputs.to(responses.device), responses, lengths, self.trained()
            )

    def logits(self, states: Tensor) -> Tensor:
        """Next-token logits (..., V) from states (..., D), with the family's soft cap."""
        logits = self.model.get_output_embeddings()(states)
        cap = soft_cap(self.model.config)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers of the language model; a frozen vision tower is sharded with the rest, in one unit."""
        return blocks_of(self.model)

    def lora_targets(self, targets: str) -> list[str]:
        """The linear layers of the language model; none if the policy is an adapter already."""
        return [] if self.adapter else matching(self.model, lora_pattern(self.settings.lora.targets, False))
