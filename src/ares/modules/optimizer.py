"""Parameter groups, learning-rate schedules and AdamW."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ares.models.policy import Trainable

# A model, and the factor on its learning rate by step.
Part = tuple[Trainable, Callable[[int], float]]


def parameter_groups(model: Trainable, weight_decay: float) -> list[dict[str, Any]]:
    """Two optimizer groups of the weights that are trained: with `weight_decay`, and norms and biases without.

    Every parameter with "bias" in its name counts as a bias. A parameter that two modules share occurs once.
    """
    norms = {
        id(parameter)
        for module in model.modules()
        if "Norm" in type(module).__name__
        for parameter in module.parameters(recurse=False)
    }
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.trained():
        (plain if id(parameter) in norms or "bias" in name else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def lr_lambda(total_steps: int, warmup_fraction: float, decay: str) -> Callable[[int], float]:
    """The factor on the learning rate at optimizer step 0, 1, …: linear warm-up, then constant or linear to 0.

    Warm-up takes `round(total_steps · warmup_fraction)` steps and starts above 0; with `decay="linear"` the
    factor would be 0 at step `total_steps`, the first one not taken. Raises ValueError for another decay.
    """
    if decay not in ("constant", "linear"):
        raise ValueError(f"There is no learning-rate decay {decay!r}; choose constant or linear.")
    warmup = round(total_steps * warmup_fraction)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if decay == "constant":
            return 1.0
        return max(0.0, (total_steps - step) / max(1, total_steps - warmup))

    return factor


def scheduled_adamw(
    parts: Sequence[Part],
    *,
    lr: float,
    weight_decay: float,
    eps: float,
    beta2: float = 0.999,
) -> Any:
    """Fused AdamW over models, each with its own factor on `lr` by step, as Lightning's optimizer and scheduler."""
    groups, factors = [], []
    for model, factor in parts:
        own = parameter_groups(model, weight_decay)
        groups += own
        factors += [factor] * len(own)
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, beta2), eps=eps, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def drop_gradients(model: Trainable) -> None:
    """Removes a model's gradients: AdamW skips such parameters, without step, decay and moments."""
    for _, weight in model.trained():
        weight.grad = None
