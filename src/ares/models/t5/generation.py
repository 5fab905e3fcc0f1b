"""T5's decoder one token at a time, for rows that started at different times.

It computes what `T5Stack` does with a cache, with one product per weight for all rows and the attention cohort by cohort.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache

from ares.models.cohorts import Cohort, CohortDecoder
from ares.models.slots import Slots
from ares.models.t5.inputs import T5Inputs
from ares.rl.masked import pad_right


class T5Decoder(CohortDecoder):
    """`ares.models.scheduling.Decoder` for k rows per prompt of at most `longest` tokens; each prompt is encoded once.

    The model is in eval mode.
    """

    def __init__(self, model: Any, inputs: T5Inputs, *, k: int, longest: int) -> None:
        longest += max(map(len, inputs.beginnings), default=0)
        super().__init__(inputs, k=k, longest=longest)
        self.model, self.inputs = model, inputs
        self.blocks = model.decoder.block
        attention = self.blocks[0].layer[0].SelfAttention
        self.heads, self.width = attention.n_heads, attention.key_value_proj_dim
        # (1, H, 1, longest): of the newest token to all before it, the newest last.
        self.bias = attention.compute_bias(1, longest, past_seen_tokens=longest - 1)

    def admit(self, prompts: Sequence[int], groups: Tensor | None = None) -> Tensor:
        """Encodes prompts, reads the beginnings of their responses, and starts k rows for each of them."""
        chosen = self.inputs.select(prompts)
        ids, mask, images = chosen.tensors
        states = self.model.encoder(
            input_ids=ids, attention_mask=mask, image_features=images
        ).last_hidden_state
        layers = [block.layer[1].EncDecAttention for block in self.blocks]
        keys_values = [
            (self._heads(layer.k(states)).contiguous(), self._heads(layer.v(states)).contiguous())
            for layer in layers
        ]
        cohort = self._start(keys_values, mask, mask.new_zeros(len(mask)), groups)
        start = self.model.config.decoder_start_token_id
        read = [[start, *beginning] for beginning in chosen.beginnings]
        if any(chosen.beginnings):
            self._begin(cohort, [row[:-1] for row in read], states, mask)
        return torch.tensor([row[-1] for row in read], device=states.device).repeat_interleave(self.k)

    def _begin(
        self, cohort: Cohort | Slots, read: Sequence[Sequence[int]], states: Tensor, mask: Tensor
    ) -> None:
        """Reads tokens in one pass, padded on the left, which changes no distance between them."""
        ids = pad_right([row[::-1] for row in read], 0).flip(1).to(states.device)
        real = pad_right([[1] * len(row) for row in read], 0).flip(1).to(states.device)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self.model.decoder(
            input_ids=ids,
            attention_mask=real,
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        )
        layers: Sequence[Any] = cache.self_attention_cache.layers
        cohort.begin([(layer.keys, layer.values) for layer in layers], real.bool())

    def step(self, tokens: Tensor) -> Tensor:
        """Logits (R, V) after `tokens` (R,)."""
        hidden = self.model.decoder.embed_tokens(tokens)[:, None]
        biases = [cohort.bias(self.bias) for cohort in self.rows]
        masks = [_additive_mask(cohort) for cohort in self.rows]
        for number, block in enumerate(self.blocks):
            own, cross, feed_forward = block.layer
            hidden = hidden + own.SelfAttention.o(self._attend_own(number, own, hidden, biases))
            hidden = hidden + cross.EncDecAttention.o(self._attend_prompt(number, cross, hidden, masks))
            hidden = hidden + feed_forward.DenseReluDense(_normed(feed_forward.layer_norm, hidden))
        for cohort in self.rows:
            cohort.advance()
        return self.model.logits(_normed(self.model.decoder.final_layer_norm, hidden)[:, 0])

    def _attend_own(self, number: int, layer: Any, hidden: Tensor, biases: Sequence[Tensor]) -> Tensor:
        """Each row's attention (R, 1, H · D) to its own tokens, with the bias of each cohort."""
        attention, normed = layer.SelfAttention, _normed(layer.layer_norm, hidden)
        queries, keys, values = (self._heads(f(normed)) for f in (attention.q, attention.k, attention.v))
        found = []
        rows = [self._split(x) for x in (queries, keys, values)]
        for cohort, bias, q, k, v in zip(self.rows, biases, *rows, strict=True):
            all_keys, all_values = cohort.extend(number, k, v)
            # For one query, plain products take half to three quarters of the time of scaled_dot_product_attention.
            scores = q @ all_keys.mT + bias
            found.append((scores.softmax(-1).to(v.dtype) @ all_values).flatten(1))
        return torch.cat(found)[:, None]

    def _attend_prompt(self, number: int, layer: Any, hidden: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Each row's attention (R, 1, H · D) to its prompt, with the mask of each cohort."""
        queries = self._heads(layer.EncDecAttention.q(_normed(layer.layer_norm, hidden)))
        found = []
        for cohort, mask, q in zip(self.rows, masks, self._split(queries), strict=True):
            keys, values = cohort.prompts[number]
            attended = F.scaled_dot_product_attention(cohort.by_prompt(q), keys, values, mask, scale=1.0)
            found.append(cohort.by_row(attended))
        return torch.cat(found)[:, None]

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, H · D) as (B, H, T, D)."""
        return x.unflatten(-1, (self.heads, self.width)).transpose(1, 2)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split([len(cohort) for cohort in self.rows])


def _normed(norm: Any, x: Tensor) -> Tensor:
    """What T5's norm computes, as one operation on a GPU instead of six."""
    weight = norm.weight
    return F.rms_norm(x.to(weight.dtype), weight.shape, weight, norm.variance_epsilon)


def _additive_mask(cohort: Cohort | Slots) -> Tensor:
    """The mask of prompts (Q, 1, 1, S), which attention on a GPU would make of a boolean one in every layer.

    The lowest number instead of -inf, which not all of its kernels can take.
    """
    dtype = cohort.prompts[0][0].dtype
    mask = torch.zeros_like(cohort.mask, dtype=dtype).masked_fill_(~cohort.mask, torch.finfo(dtype).min)
    return mask[:, None, None]
