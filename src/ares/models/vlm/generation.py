"""A vision-language network one token at a time, for rows that started at different times.

The network computes everything but the attention of its language model, which is replaced while rows are written: rows
attend cohort by cohort, and the rows of a prompt share its keys. So no family needs code of its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AttentionInterface, Cache

from ares.models.cohorts import Cohort, CohortDecoder
from ares.models.slots import Slots
from ares.models.vlm.reader import VlmInputs
from ares.models.vlm.shared import read_prompts

if TYPE_CHECKING:
    from ares.models.vlm.policy import VlmPolicy

_NAME = "ares_cohorts"


def has_cohorts(network: Any) -> bool:
    """Whether rows of a network can attend cohort by cohort: its layers have keys, and its attention can be replaced."""
    kinds = getattr(network.config.get_text_config(), "layer_types", None) or ["full_attention"]
    return network._supports_attention_backend and set(kinds) <= {"full_attention", "sliding_attention"}


class VlmDecoder(CohortDecoder):
    """`ares.models.scheduling.Decoder` for k rows per prompt of at most `longest` tokens; each prompt and image is read once."""

    def __init__(self, policy: "VlmPolicy", inputs: VlmInputs, *, k: int, longest: int) -> None:
        super().__init__(inputs, k=k, longest=longest)
        self.policy, self.inputs = policy, inputs
        self.body = policy.model.model

    def admit(self, prompts: Sequence[int], groups: Tensor | None = None) -> Tensor:
        """Reads prompts, and starts k rows for each of them, which read the prompt's last token again."""
        chosen = self.inputs.select(prompts)
        states, cache, following = read_prompts(self.body, chosen)
        last = torch.tensor(chosen.lengths, device=states.device) - 1
        # Without its last token, which becomes the first of each row's own.
        mask = torch.arange(states.shape[1], device=states.device) < last[:, None]
        layers: Sequence[Any] = cache.layers
        read = [(layer.keys, layer.values) for layer in layers]
        self._start(read, mask, following - 1, groups)
        tokens = torch.tensor([ids[-1] for ids in chosen.ids], device=states.device)
        return tokens.repeat_interleave(self.k)

    def step(self, tokens: Tensor) -> Tensor:
        """Logits (R, V) after `tokens` (R,)."""
        with _attending_by_cohort(self.policy.model.config.get_text_config()):
            states = self.body(
                input_ids=tokens[:, None],
                attention_mask=tokens.new_ones((len(tokens), 1, 1, 1), dtype=torch.bool),  # not used
                position_ids=torch.cat([cohort.positions() for cohort in self.rows])[:, None],
                past_key_values=_Cohorts(self.rows),
                use_cache=True,
            ).last_hidden_state
        for cohort in self.rows:
            cohort.advance()
        return self.policy.logits(states[:, 0])


class _Cohorts(Cache):
    """Hands the newest keys of a layer, and the cohorts that have the others, to the attention."""

    def __init__(self, cohorts: Sequence[Cohort | Slots]) -> None:
        super().__init__(layers=[])
        self.cohorts = cohorts
        self._masks: dict[int | None, list[Tensor]] = {}

    def masks(self, window: int | None) -> list[Tensor]:
        """True for what rows do not attend to, (R, 1, 1, S + age + 1) for each cohort; the layers of a step share it."""
        if window not in self._masks:
            self._masks[window] = [~cohort.seen(window)[:, None, None] for cohort in self.cohorts]
        return self._masks[window]

    def update(  # type: ignore[override]
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Any, Tensor]:
        """The layer's number and this object with the newest keys (R, H, 1, D), in place of all keys."""
        return (layer_idx, self, key_states), value_states

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        """More than 0: the prompts have been read."""
        return 1


@contextmanager
def _attending_by_cohort(config: Any) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation_internal = _NAME
    try:
        yield
    finally:
        config._attn_implementation_internal = before


def _attend(
    module: Any,
    query: Tensor,
    key: tuple[int, _Cohorts, Tensor],
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' interface of an attention: (R, 1, H, D) from queries (R, H, 1, D) and newest keys and values."""
    layer, cache, newest = key
    sizes, found = [len(cohort) for cohort in cache.cohorts], []
    rows = (query.split(sizes), newest.split(sizes), value.split(sizes))
    for cohort, mask, q, k, v in zip(cache.cohorts, cache.masks(sliding_window), *rows, strict=True):
        keys, values = cohort.extend(layer, k, v)
        prompt_keys, prompt_values = cohort.prompts[layer]
        q = q * scaling
        scores = torch.cat(
            [
                cohort.by_row(_grouped(cohort.by_prompt(q), prompt_keys.mT)).view(*q.shape[:3], -1),
                _grouped(q, keys.mT),
            ],
            dim=-1,
        )
        if softcap is not None:
            scores = softcap * torch.tanh(scores.float() / softcap)
        weights = scores.masked_fill_(mask, -torch.inf).softmax(-1, dtype=torch.float32).to(q.dtype)
        to_prompt, to_own = weights.split([prompt_keys.shape[2], keys.shape[2]], dim=-1)
        from_prompt = cohort.by_row(_grouped(cohort.by_prompt(to_prompt), prompt_values))
        found.append(from_prompt + _grouped(to_own, values).flatten(1))
    heads = query.shape[1]
    return torch.cat(found).unflatten(1, (heads, -1))[:, None], None


def _grouped(left: Tensor, right: Tensor) -> Tensor:
    """(B, H, T, M) from (B, H, T, N) and (B, h, N, M): H / h heads of `left` share one of `right`."""
    rows, heads, tokens, _ = left.shape
    shared = left.reshape(rows, right.shape[1], -1, left.shape[3])
    return (shared @ right).view(rows, heads, tokens, -1)


AttentionInterface.register(_NAME, _attend)
