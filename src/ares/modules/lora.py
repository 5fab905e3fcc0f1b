"""The LoRA adapter that answers: which layers it adapts."""

import re
from typing import Any

from torch import nn

# The head and the value head are never adapted; nn.MultiheadAttention reads its weights directly, past an adapter.
_NEVER = r"(^|\.)(lm_head|v_head|mha_layer)(\.|$)"
_FUSION = r"(^|\.)(image_dense|gate_dense)(\.|$)"


def target_modules(model: nn.Module, targets: str, *, features: bool) -> list[str]:
    """The names of the linear layers to adapt.

    `all`: every linear layer except lm_head, v_head and mha_layer and, without image features, the unused
    fusion layers. `paper`: the original's list, which holds lm_head, unless it is tied to the embedding, and
    mha_layer.out_proj too.
    """
    # An adapter merged into a tied head would change the embedding as well.
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module.weight) not in embeddings
    ]
    if targets == "paper":
        return [name for name in linear if not name.startswith("v_head")]
    excluded = _NEVER if features else f"{_NEVER}|{_FUSION}"
    return [name for name in linear if not re.search(excluded, name)]


def add_adapter(model: Any, *, r: int, alpha: int, dropout: float, targets: str, features: bool) -> Any:
    """The model with a fresh adapter of rank `r`; only the adapter is trainable."""
    from peft import LoraConfig, TaskType, get_peft_model

    settings = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules(model, targets, features=features),
        bias="none",
        task_type=TaskType.SEQ_2_SEQ_LM,
    )
    return get_peft_model(model, settings)
