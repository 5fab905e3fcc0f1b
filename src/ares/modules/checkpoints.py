"""What checkpoints of a fit leave out."""

from typing import Any

from torch import nn


def leave_out_frozen(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Removes frozen weights from a checkpoint's state, in place: a base model is billions of weights that never change."""
    frozen = {
        name for name, weight in module.named_parameters(remove_duplicate=False) if not weight.requires_grad
    }
    checkpoint["state_dict"] = {
        name: tensor for name, tensor in checkpoint["state_dict"].items() if name not in frozen
    }


def leave_out_policy(checkpoint: dict[str, Any]) -> None:
    """Removes the weights under `policy.` from a checkpoint's state, in place: the warm-up of a value model changes none.

    Adapters stay, because another model's may be on the policy's network.
    """
    checkpoint["state_dict"] = {
        name: tensor
        for name, tensor in checkpoint["state_dict"].items()
        if "lora_" in name or not name.startswith("policy.")
    }
