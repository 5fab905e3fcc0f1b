"""The encoder that looks at an image: Multimodal-CoT's fusion on top of T5's.

Zhang et al. 2023, "Multimodal Chain-of-Thought Reasoning in Language Models", section 4.2: every text position
attends over the projected patches of the image and mixes the result in through a sigmoid gate. Module names are
those of the original checkpoints.
"""

from typing import Any

import torch
import transformers.initialization as init
from torch import Tensor, nn
from transformers import T5Config
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.t5.modeling_t5 import T5Stack

from ares.types import AresError

FUSION_MODULES = ("image_dense", "mha_layer", "gate_dense")


class FusionT5Config(T5Config):
    """T5's configuration with the shape of an image's features: `patch_num` patches of `patch_dim` numbers.

    Only `patch_dim` shapes a weight; the number of patches may differ from batch to batch.
    """

    patch_num: int = 145
    patch_dim: int = 1024


class FusionT5Stack(T5Stack):
    """T5's encoder, whose last states are mixed with what they attend to in the image."""

    config: FusionT5Config

    def __init__(self, config: FusionT5Config) -> None:
        super().__init__(config)
        self.image_dense = nn.Linear(config.patch_dim, config.d_model)
        self.mha_layer = nn.MultiheadAttention(config.d_model, num_heads=1, batch_first=True)
        self.gate_dense = nn.Linear(2 * config.d_model, config.d_model)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # T5's rule is N(0, 1) for a linear layer that it does not know, which would drown the text.
        # It also runs once before these modules exist.
        attention = getattr(self, "mha_layer", None)
        ours = (
            getattr(self, "image_dense", None),
            getattr(self, "gate_dense", None),
            getattr(attention, "out_proj", None),
        )
        if isinstance(module, nn.Linear) and any(module is layer for layer in ours):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        image_features: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encodes (B, S) int64 ids; `image_features` (B, P, D) float, None to skip the fusion.

        Rows of zeros (a problem without an image) go through the fusion like any other.
        """
        kwargs["return_dict"] = True
        output = super().forward(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs
        )
        if image_features is not None:
            output.last_hidden_state = self.fuse(output.last_hidden_state, image_features)
        return output

    def fuse(self, text: Tensor, image_features: Tensor) -> Tensor:
        """(1 − g)·text + g·attended, g = σ(W[text; attended]): (B, S, d_model) and (B, P, D) to (B, S, d_model).

        Raises AresError where D is not the model's `patch_dim`.
        """
        if image_features.shape[-1] != self.config.patch_dim:
            raise AresError(
                f"The image features have {image_features.shape[-1]} numbers per patch and the model reads "
                f"{self.config.patch_dim}; choose the features it was trained with, or features=none."
            )
        image = self.image_dense(image_features.to(self.image_dense.weight.dtype))
        attended, _ = self.mha_layer(text, image, image, need_weights=False)
        gate = torch.sigmoid(self.gate_dense(torch.cat([text, attended], dim=-1)))
        return (1 - gate) * text + gate * attended
