"""Forward passes of a plain transformers network over prompts and responses, as the baselines make them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.activations import ACT2FN

from ares.models.inputs import Inputs
from ares.models.policy import Policy
from ares.models.vlm.policy import VlmPolicy

PADDED = 512  # tokens of a prompt in `paper_path`


@contextmanager
def stock(*models: Any) -> Iterator[None]:
    """The networks compute as transformers does: a T5's attention and activation are ours otherwise."""
    stacks = [
        s for model in models for s in (getattr(model, "encoder", None), getattr(model, "decoder", None)) if s
    ]
    feeds = [block.layer[-1].DenseReluDense for stack in stacks for block in stack.block]
    before = [stack.config._attn_implementation for stack in stacks], [feed.act for feed in feeds]
    for stack in stacks:
        stack.config._attn_implementation_internal = "sdpa"
    for feed in feeds:
        feed.act = ACT2FN["gelu_new"]
    try:
        yield
    finally:
        for stack, name in zip(stacks, before[0], strict=True):
            stack.config._attn_implementation_internal = name
        for feed, act in zip(feeds, before[1], strict=True):
            feed.act = act


def in_parts(rows: Sequence[int], lengths: Sequence[int], size: int, *, paper: bool) -> Iterator[list[int]]:
    """Micro-batches of rows of similar length or, as the original has them, in their order."""
    order = rows if paper else sorted(rows, key=lambda row: lengths[row])
    for first in range(0, len(order), size):
        yield list(order[first : first + size])


@dataclass(frozen=True)
class Plain:
    """The network of a policy; with `paper` prompts are padded to 512 tokens, otherwise to the longest."""

    policy: Policy
    prompts: Inputs
    paper: bool

    def inputs(self, questions: Sequence[int]) -> dict[str, Any]:
        """The prompts of questions as tensors: a T5's padded on the right, a VLM's on the left."""
        chosen = self.prompts.select(questions).to(self.policy.device)
        if isinstance(self.policy, VlmPolicy):
            batch = chosen.prompts()  # type: ignore[attr-defined]
            missing = max(0, PADDED - batch["input_ids"].shape[1]) if self.paper else 0
            tokens = {name: F.pad(batch[name], (missing, 0)) for name in ("input_ids", "attention_mask")}
            return {**batch, **tokens}
        ids, mask, images = chosen.tensors  # type: ignore[attr-defined]
        missing = PADDED - ids.shape[1] if self.paper else 0
        ids, mask = F.pad(ids, (0, missing)), F.pad(mask, (0, missing))
        return {"input_ids": ids, "attention_mask": mask, "image_features": images}

    def logprobs(self, inputs: dict[str, Any], ids: Tensor, model: Any = None) -> Tensor:
        """Log-probabilities (B, T, V) of each token of responses (B, T) under the network, or under `model`."""
        network, ids = model or self.policy.model, ids.to(self.policy.device)
        if isinstance(self.policy, VlmPolicy):
            kept = ids.shape[1] + 1
            logits = network(**followed(inputs, ids), logits_to_keep=kept).logits[:, :-1]
        else:
            logits = network(**inputs, decoder_input_ids=F.pad(ids, (1, 0))[:, :-1]).logits
        return logits.log_softmax(-1)


def of_tokens(logprobs: Tensor, ids: Tensor) -> Tensor:
    """The log-probabilities (B, T) of responses (B, T) among those of all tokens (B, T, V)."""
    return logprobs.gather(-1, ids.to(logprobs.device)[..., None]).squeeze(-1)


def followed(inputs: dict[str, Any], ids: Tensor) -> dict[str, Any]:
    """Prompts followed by responses, for a network without an encoder."""
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(ids)], dim=1)
    return {**inputs, "input_ids": torch.cat([inputs["input_ids"], ids], dim=1), "attention_mask": mask}
