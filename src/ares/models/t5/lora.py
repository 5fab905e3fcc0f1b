"""The layers of a T5 that an adapter trains."""

from torch import nn

# nn.MultiheadAttention reads its weights directly, past an adapter.
_NEVER = {"lm_head", "v_head", "mha_layer"}
_FUSION = {"image_dense", "gate_dense"}


def lora_targets(model: nn.Module, targets: str, *, features: bool) -> list[str]:
    """The names of the linear layers to adapt.

    `all`: every linear layer except the heads and the attention to the image and, without image `features`, the
    unused fusion layers. `paper`: the original's list, which also has the language-model head, unless it is tied to
    the embedding, and the attention's output.
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
    excluded = _NEVER if features else _NEVER | _FUSION
    return [name for name in linear if not excluded & set(name.split("."))]
