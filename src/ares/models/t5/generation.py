"""T5's decoder one token at a time, for rows that started at different times.

It computes what `T5Stack` does with a cache, with one product per weight for all rows and the attention cohort by cohort.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ares.models.cohorts import Cohort, keep_rows
from ares.models.t5.inputs import T5Inputs


class T5Decoder:
    """`ares.models.scheduling.Decoder` for k rows per prompt of at most `longest` tokens; each prompt is encoded once.

    The model is in eval mode.
    """

    def __init__(self, model: Any, inputs: T5Inputs, *, k: int, longest: int) -> None:
        self.model, self.inputs, self.k = model, inputs, k
        self.blocks = model.decoder.block
        attention = self.blocks[0].layer[0].SelfAttention
        self.heads, self.width = attention.n_heads, attention.key_value_proj_dim
        # (1, H, 1, longest): of the newest token to all before it, the newest last.
        self.bias = attention.compute_bias(1, longest, past_seen_tokens=longest - 1)
        self.cohorts: list[Cohort] = []

    def admit(self, prompts: Sequence[int]) -> Tensor:
        """Encodes prompts, and starts k rows for each of them."""
        ids, mask, images = self.inputs.select(prompts).tensors
        states = self.model.encoder(
            input_ids=ids, attention_mask=mask, image_features=images
        ).last_hidden_state
        layers = [block.layer[1].EncDecAttention for block in self.blocks]
        keys_values = [
            (self._heads(layer.k(states)).contiguous(), self._heads(layer.v(states)).contiguous())
            for layer in layers
        ]
        self.cohorts.append(Cohort(keys_values, mask, k=self.k, longest=self.bias.shape[3]))
        start = self.model.config.decoder_start_token_id
        return torch.full((len(prompts) * self.k,), start, device=states.device)

    def step(self, tokens: Tensor) -> Tensor:
        """Logits (R, V) after `tokens` (R,)."""
        hidden = self.model.decoder.embed_tokens(tokens)[:, None]
        for number, block in enumerate(self.blocks):
            own, cross, feed_forward = block.layer
            hidden = hidden + own.SelfAttention.o(self._attend_own(number, own, hidden))
            hidden = hidden + cross.EncDecAttention.o(self._attend_prompt(number, cross, hidden))
            hidden = feed_forward(hidden)
        for cohort in self.cohorts:
            cohort.age += 1
        return self.model.logits(self.model.decoder.final_layer_norm(hidden)[:, 0])

    def keep(self, alive: Sequence[bool]) -> list[int]:
        """Removes rows."""
        self.cohorts, order = keep_rows(self.cohorts, alive)
        return order

    def _attend_own(self, number: int, layer: Any, hidden: Tensor) -> Tensor:
        """Each row's attention (R, 1, H · D) to its own tokens."""
        attention, normed = layer.SelfAttention, layer.layer_norm(hidden)
        queries, keys, values = (self._heads(f(normed)) for f in (attention.q, attention.k, attention.v))
        found = []
        for cohort, q, k, v in zip(
            self.cohorts, *(self._split(x) for x in (queries, keys, values)), strict=True
        ):
            all_keys, all_values = cohort.extend(number, k, v)
            bias = self.bias[..., -all_keys.shape[2] :].to(q.dtype)
            found.append(F.scaled_dot_product_attention(q, all_keys, all_values, bias, scale=1.0).flatten(1))
        return torch.cat(found)[:, None]

    def _attend_prompt(self, number: int, layer: Any, hidden: Tensor) -> Tensor:
        """Each row's attention (R, 1, H · D) to its prompt."""
        queries = self._heads(layer.EncDecAttention.q(layer.layer_norm(hidden)))
        found = []
        for cohort, q in zip(self.cohorts, self._split(queries), strict=True):
            keys, values = cohort.prompts[number]
            mask = cohort.mask[:, None, None]
            attended = F.scaled_dot_product_attention(cohort.by_prompt(q), keys, values, mask, scale=1.0)
            found.append(cohort.by_row(attended))
        return torch.cat(found)[:, None]

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, H · D) as (B, H, T, D)."""
        return x.unflatten(-1, (self.heads, self.width)).transpose(1, 2)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split([len(cohort) for cohort in self.cohorts])
