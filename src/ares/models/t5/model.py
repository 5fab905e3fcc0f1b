"""The policy and the value model: T5 with image fusion and a language-model head or a value head.

Checkpoints of Multimodal-CoT and of the original ARES load through `from_pretrained`.
"""

import copy
from typing import Any

import torch
import transformers.initialization as init
from torch import Tensor, nn
from transformers import T5ForConditionalGeneration
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.models.t5.modeling_t5 import T5PreTrainedModel, T5Stack

from ares.models.heads import value_head
from ares.models.t5.fusion import FusionT5Config, FusionT5Stack
from ares.models.t5.names import OLD_NAMES, checkpoint_patch_dim

_HUB_ARGUMENTS = ("revision", "cache_dir", "subfolder", "local_files_only", "force_download", "token")


class _FusionBody(T5PreTrainedModel):
    """Loading and decoder states, common to the policy and the value model."""

    config_class = FusionT5Config
    config: FusionT5Config
    encoder: Any
    decoder: Any

    @classmethod
    def from_pretrained(cls, path: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """`PreTrainedModel.from_pretrained`, with `patch_dim` taken from the shape of the checkpoint's weight.

        Also reads the names of the first Multimodal-CoT, whose fusion is not part of the encoder.
        """
        if path is not None and not {"config", "patch_dim"} & kwargs.keys():
            where = {name: kwargs[name] for name in _HUB_ARGUMENTS if name in kwargs}
            patch_dim = checkpoint_patch_dim(path, **where)
            kwargs |= {} if patch_dim is None else {"patch_dim": patch_dim}
        found: Any = super().from_pretrained(path, *args, key_mapping=OLD_NAMES, **kwargs)
        # Otherwise save_pretrained would write the old names.
        (found[0] if isinstance(found, tuple) else found)._weight_conversions = None
        return found

    def decoder_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        image_features: Tensor | None,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """The decoder's last states (B, T, d_model), teacher-forced.

        `input_ids`, `attention_mask` (B, S) int64, `image_features` (B, P, D) float or None,
        `decoder_input_ids` (B, T) int64. Right padding of the response needs no mask: attention is causal.
        """
        encoded = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, image_features=image_features
        ).last_hidden_state
        return self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoded,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        ).last_hidden_state


class T5ForMultimodalGeneration(_FusionBody, T5ForConditionalGeneration):
    """T5 with image fusion and a language-model head; an ordinary transformers model otherwise."""

    def __init__(self, config: FusionT5Config) -> None:
        super().__init__(config)
        self.encoder = FusionT5Stack(_stack_config(config, is_decoder=False))
        self.post_init()

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_features: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        encoder_outputs: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Logits (B, T, V) and, with `labels` (B, T) int64 (−100 where there is none), the mean cross-entropy.

        `image_features` (B, P, D) float, None to skip the fusion; other arguments as in
        `T5ForConditionalGeneration.forward`.
        """
        if encoder_outputs is None:
            wanted = {
                name: kwargs[name] for name in ("output_attentions", "output_hidden_states") if name in kwargs
            }
            encoder_outputs = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                image_features=image_features,
                **wanted,
            )
        return super().forward(
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            labels=labels,
            encoder_outputs=encoder_outputs,
            **kwargs,
        )

    def logits(self, states: Tensor) -> Tensor:
        """The decoder's states (..., d_model) as logits (..., V)."""
        if self.config.scale_decoder_outputs:
            states = states * self.model_dim**-0.5
        return self.lm_head(states)


class T5ForMultimodalValue(_FusionBody):
    """The same body with a value head, which predicts the sum of the sentence rewards from each token on."""

    _tied_weights_keys = {  # noqa: RUF012
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
    }
    # The original keeps an unused language-model head in its value model.
    _keys_to_ignore_on_load_unexpected = [r"lm_head\.weight"]  # noqa: RUF012

    def __init__(self, config: FusionT5Config) -> None:
        super().__init__(config)
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = FusionT5Stack(_stack_config(config, is_decoder=False))
        self.decoder = T5Stack(_stack_config(config, is_decoder=True))
        self.v_head = value_head(config.d_model)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        head = getattr(self, "v_head", ())
        if isinstance(module, nn.Linear) and any(module is layer for layer in head):
            # torch's own default for a linear layer; `init` leaves alone what a checkpoint has filled.
            bound = module.in_features**-0.5
            init.uniform_(module.weight, -bound, bound)
            init.uniform_(module.bias, -bound, bound)
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        """The embedding that encoder and decoder share."""
        return self.shared

    def set_input_embeddings(self, new_embeddings: nn.Embedding) -> None:  # type: ignore[override]
        """Replaces the embedding that encoder and decoder share."""
        self.shared = new_embeddings
        self.encoder.set_input_embeddings(new_embeddings)
        self.decoder.set_input_embeddings(new_embeddings)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        image_features: Tensor | None = None,
        *,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Values (B, T): entry t is the value of the state in which decoder position t is about to write.

        `input_ids`, `attention_mask` (B, S) int64, `image_features` (B, P, D) float or None,
        `decoder_input_ids` (B, T) int64 (the response shifted right).
        """
        states = self.decoder_states(
            input_ids, attention_mask, image_features, decoder_input_ids, decoder_attention_mask
        )
        return self.v_head(states).squeeze(-1)


def _stack_config(config: FusionT5Config, *, is_decoder: bool) -> FusionT5Config:
    stack_config = copy.deepcopy(config)
    stack_config.is_decoder = is_decoder
    stack_config.use_cache = is_decoder and config.use_cache
    if is_decoder and config.num_decoder_layers:
        stack_config.num_layers = config.num_decoder_layers
    return stack_config
