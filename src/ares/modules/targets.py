"""The value model's predictions for a buffer, and how well they fit."""

import pytorch_lightning as pl
import torch
from torch import Tensor

from ares.datamodules.buffer import RolloutBuffer
from ares.datamodules.rollouts import RolloutData
from ares.models.policy import ValueModel
from ares.rl.advantages import monte_carlo_returns
from ares.rl.losses import explained_variance
from ares.rl.masked import sum_over_ranks


@torch.no_grad()
def buffer_values(model: ValueModel, data: RolloutData, trainer: pl.Trainer) -> Tensor:
    """The value model's values of all rows, (N, T) float32 on its device; each rank computes its share."""
    device = trainer.strategy.root_device
    buffer = data.buffer
    found = torch.zeros(buffer.mask.shape, device=device)
    sizes = buffer.sizes()
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    chunks = [order[start : start + data.micro] for start in range(0, len(order), data.micro)]
    # The same number of forward passes on every rank: a sharded model gathers its weights from all.
    chunks += [[]] * (-len(chunks) % trainer.world_size)
    for chunk in chunks[trainer.global_rank :: trainer.world_size]:
        batch = trainer.strategy.batch_to_device(buffer.batch(chunk), device)
        with trainer.precision_plugin.forward_context():
            values = model.values(batch["inputs"], batch["response_ids"], batch["response_mask"])
        if chunk:
            found[batch["rows"], : values.shape[1]] = values.float()
    # Every row is 0 on all ranks but one.
    return sum_over_ranks(found)


def value_fit(
    buffer: RolloutBuffer, rewards: Tensor, values: Tensor, rows: list[int], *, gamma: float
) -> float:
    """The explained variance of the Monte-Carlo returns of some rows by (N, T) values, from (N, T) rewards."""
    mask = buffer.mask.to(rewards.device)[rows]
    returns = monte_carlo_returns(rewards[rows], mask, gamma=gamma)
    return float(explained_variance(values[rows], returns, mask))
