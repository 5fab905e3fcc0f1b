"""What a PPO epoch aims at: old values, advantages and returns of the whole buffer."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from ares.config.schema import RlConfig
from ares.datamodules.rollouts import RolloutBuffer, RolloutData
from ares.models.t5.generation import values
from ares.rl.advantages import gae, group_advantages, monte_carlo_returns
from ares.rl.losses import explained_variance
from ares.rl.masked import masked_whiten, sum_over_ranks


def model_inputs(batch: dict[str, Any]) -> tuple[Any, ...]:
    """What `token_logprobs` and `values` take behind the model, from a batch of `RolloutBuffer.batch`."""
    names = ("input_ids", "attention_mask", "image_features", "response_ids", "response_mask")
    return tuple(batch[name] for name in names)


@torch.no_grad()
def buffer_values(model: nn.Module, data: RolloutData, trainer: pl.Trainer) -> Tensor:
    """The value model's values of all rows, (N, T) float32 on its device; each rank computes its share."""
    device = trainer.strategy.root_device
    found = torch.zeros(data.buffer.mask.shape, device=device)
    sizes = data.buffer.sizes()
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    chunks = [order[start : start + data.micro] for start in range(0, len(order), data.micro)]
    # As many forward passes on every rank: a sharded model gathers its weights from all.
    chunks += [[]] * (-len(chunks) % trainer.world_size)
    for chunk in chunks[trainer.global_rank :: trainer.world_size]:
        batch = trainer.strategy.batch_to_device(data.batch(chunk), device)
        with trainer.precision_plugin.forward_context():
            said = values(model, *model_inputs(batch))
        if chunk:
            found[batch["rows"], : said.shape[1]] = said.float()
    # Every row is 0 on all ranks but one.
    return sum_over_ranks(found)


def epoch_targets(
    buffer: RolloutBuffer, rewards: Tensor, old_values: Tensor, rl: RlConfig, *, warming_up: bool
) -> tuple[Tensor, Tensor]:
    """`(advantages, returns)`, (N, T) float32 on the device of `rewards` and `old_values` (N, T).

    Warm-up aims at Monte-Carlo returns and has no advantages. Advantages are whitened, if so, over the real
    tokens of all training rows; those of held-out rows are then 0.
    """
    mask = buffer.mask.to(rewards.device)
    if rl.objective != "ppo" or warming_up:
        returns = monte_carlo_returns(rewards, mask, gamma=rl.gamma)
        if warming_up:
            return torch.zeros_like(returns), returns
        ends = [row.token_ends for row in buffer.rows]
        advantages = group_advantages(
            rewards.cpu(), buffer.lengths, ends, buffer.groups(), objective=rl.objective
        )
        return advantages.to(rewards.device), returns
    advantages, returns = gae(rewards, old_values, mask, gamma=rl.gamma, lam=rl.lam)
    if rl.whiten:
        # Every rank holds the whole buffer, so that the sums over ranks change nothing.
        trained = torch.zeros_like(mask)
        trained[buffer.train] = mask[buffer.train]
        advantages = masked_whiten(advantages, trained)
    return advantages, returns


def value_fit(
    buffer: RolloutBuffer, rewards: Tensor, old_values: Tensor, rows: list[int], *, gamma: float
) -> float:
    """The explained variance of the Monte-Carlo returns of some rows by (N, T) values, from (N, T) rewards."""
    mask = buffer.mask.to(rewards.device)[rows]
    returns = monte_carlo_returns(rewards[rows], mask, gamma=gamma)
    return float(explained_variance(old_values[rows], returns, mask))
