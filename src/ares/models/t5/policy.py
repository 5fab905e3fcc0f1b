"""T5 with image fusion as a policy."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.models.t5.modeling_t5 import T5Block

from ares.models.adapters import add_adapter, load_adapter, save_adapter
from ares.models.policy import ModelSize, Policy, ValueModel
from ares.models.t5.attention import lean
from ares.models.t5.generation import T5Decoder
from ares.models.t5.inputs import Features, T5Inputs
from ares.models.t5.loading import build_model, load_model, load_value_model, save_model, value_from_model
from ares.models.t5.lora import lora_targets
from ares.models.t5.model import T5ForMultimodalGeneration, T5ForMultimodalValue
from ares.models.t5.names import checkpoint_patch_dim
from ares.models.t5.prompts import encode_prompts, encode_texts
from ares.models.t5.size import t5_size
from ares.models.t5.states import response_states
from ares.models.t5.value import T5SharedValue, T5Value
from ares.text.tokenizers import load_tokenizer, train_tokenizer
from ares.types import AresError, Example


class T5Policy(Policy):
    """A T5, its tokenizer and the image features that it sees; without `features` it sees text only."""

    model: T5ForMultimodalGeneration
    task_type = "SEQ_2_SEQ_LM"
    original = True

    def __init__(
        self,
        model: T5ForMultimodalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        *,
        features: Features | None = None,
        max_input_tokens: int = 512,
        newline: str = "space",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.features = model, tokenizer, features
        self.max_input_tokens, self.newline = max_input_tokens, newline
        lean(model)
        if checkpointing:
            model.activation_checkpointing_enable()

    @classmethod
    def start(
        cls,
        settings: Mapping[str, Any],
        texts: Sequence[str],
        *,
        tokenizer: Mapping[str, Any],
        seed: int,
        dropout: float = 0.0,
        features: Features | None = None,
        **reading: Any,
    ) -> Self:
        """The checkpoint in `settings["init"]` or, without one, a model of the given sizes drawn from `seed`."""
        known = _tokenizer(settings, texts, tokenizer)
        seen = features is not None
        if settings["init"]:
            model = load_model(settings["init"], dropout=dropout, features=seen, seed=seed)
            _check_entries(known, model, settings["init"])
        else:
            patches, dim = features.shape if features is not None else (1, 8)
            others = ("name", "_target_", "init", "prompts")  # prompts are a chat model's
            sizes = {key: value for key, value in settings.items() if key not in others}
            model = build_model(
                known,
                patch_num=patches,
                patch_dim=dim,
                dropout=dropout,
                seed=seed,
                features=seen,
                **sizes,
            )
        return cls(model, known, features=features, **reading)

    @classmethod
    def load(
        cls, folder: Path | str, *, dropout: float, features: Features | None = None, **reading: Any
    ) -> Self:
        """The policy in a folder: ours, Multimodal-CoT's, the original ARES's, or a plain T5 (see `load_model`)."""
        model = load_model(folder, dropout=dropout, features=features is not None)
        known = load_tokenizer(folder)
        _check_entries(known, model, str(folder))
        return cls(model, known, features=features, **reading)

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
        """How many contexts have to be shortened. Raises AresError for a question that does not fit with its options."""
        return encode_prompts(_tokenizer(settings, texts, tokenizer), examples, max_input_tokens)[1]

    @classmethod
    def size(cls, settings: Mapping[str, Any], vocabulary: int) -> ModelSize | None:
        """The size of a T5 (see `t5_size`)."""
        return t5_size(settings, vocabulary)

    @classmethod
    def feature_dim(cls, path: Path | str, **where: Any) -> int | None:
        """The numbers per patch that a checkpoint's fusion takes; None without a fusion."""
        return checkpoint_patch_dim(path, **where)

    def save(self, folder: Path) -> None:
        """Writes an ordinary transformers folder: weights, configuration, tokenizer."""
        self.model.config.dropout_rate = 0.0
        save_model(self.model, self.tokenizer, folder)

    def sibling(self, folder: Path) -> Policy:
        """The policy in another folder, on a network of its own."""
        reading = {"max_input_tokens": self.max_input_tokens, "newline": self.newline}
        return self.load(folder, dropout=0.0, features=self.features, **reading).to(self.device)

    def adapt(self, *, r: int, alpha: int, dropout: float, targets: str, seed: int) -> None:
        """Wraps the network in a fresh adapter; only the adapter is trained, with `r=0` the network itself."""
        if r == 0:
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            add_adapter(self, r=r, alpha=alpha, dropout=dropout, targets=targets)

    def save_adapter(self, folder: Path) -> None:
        """Writes the adapter in PEFT's format or, without one, the network."""
        if hasattr(self.model, "peft_config"):
            save_adapter(self, folder)
        else:
            self.save(folder)

    def answerer(self, folder: Path) -> Policy:
        """The policy with the adapter of a folder, or the network that the folder holds instead; on a network of its own."""
        if not (folder / "adapter_config.json").exists() and (folder / "config.json").exists():
            return self.sibling(folder)
        policy = copy.deepcopy(self)
        load_adapter(policy, folder)
        return policy

    def new_value(self, *, seed: int, shared: bool) -> ValueModel:
        """A value model that predicts 0: on a copy of this policy's body, or on the body itself (`shared`)."""
        return self._value(value_from_model(self.model, seed=seed), shared)

    def load_value(self, folder: Path, *, shared: bool) -> ValueModel:
        """The value model in a folder; with `shared` its head on this policy's body."""
        return self._value(load_value_model(folder, dropout=0.0, features=self.features is not None), shared)

    def _value(self, value: T5ForMultimodalValue, shared: bool) -> ValueModel:
        if shared:
            return T5SharedValue(self, value.v_head)
        if self.model.is_activation_checkpointing:
            value.activation_checkpointing_enable()
        return T5Value(value, self.features is not None)

    # ----------------------------------------------------------------------------------- text

    def encode(self, examples: Sequence[Example]) -> T5Inputs:
        """The prompts as ids, with EOS as the last one; contexts are shortened to fit `max_input_tokens`."""
        ids, shortened = encode_prompts(self.tokenizer, examples, self.max_input_tokens)
        self.shortened += shortened
        return T5Inputs(ids, [example.pid for example in examples], self.features, self.pad_id)

    def encode_targets(self, examples: Sequence[Example], *, max_tokens: int) -> list[list[int]]:
        """The targets as ids, cut to `max_tokens` with EOS kept as the last one."""
        return encode_texts(self.tokenizer, [example.target for example in examples], max_tokens)

    def decoder(self, inputs: T5Inputs, *, k: int, longest: int) -> T5Decoder:  # type: ignore[override]
        """See `T5Decoder`."""
        return T5Decoder(self.model, inputs, k=k, longest=longest)

    # ---------------------------------------------------------------------------- probabilities

    def states(  # type: ignore[override]
        self, inputs: T5Inputs, responses: Tensor, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """The decoder's last states (B, T, D), teacher-forced; each prompt is encoded once."""
        return response_states(self.model, inputs, responses, lengths)

    def logits(self, states: Tensor) -> Tensor:
        """Next-token logits (..., V) from decoder states (..., D)."""
        return self.model.logits(states)

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks of encoder and decoder."""
        return [module for module in self.model.modules() if isinstance(module, T5Block)]

    def lora_targets(self, targets: str) -> list[str]:
        """The names of the linear layers to adapt (see `ares.models.t5.lora`)."""
        return lora_targets(self.model, targets, features=self.features is not None)


def _tokenizer(
    settings: Mapping[str, Any], texts: Sequence[str], tokenizer: Mapping[str, Any]
) -> PreTrainedTokenizerBase:
    """The tokenizer that conf/model describes: `tokenizer.path`, the checkpoint's, or one trained on `texts`."""
    source = tokenizer["path"] or settings["init"]
    return load_tokenizer(source) if source else train_tokenizer(texts, vocab_size=tokenizer["vocab_size"])


def _check_entries(tokenizer: PreTrainedTokenizerBase, model: T5ForMultimodalGeneration, path: str) -> None:
    """Raises AresError for a tokenizer of another model, some of whose ids have no embedding."""
    if len(tokenizer) > model.config.vocab_size:
        raise AresError(
            f"The tokenizer has {len(tokenizer):,} entries, and the model in {path} knows {model.config.vocab_size:,}; give "
            "the tokenizer that belongs to it (tokenizer.path)."
        )
