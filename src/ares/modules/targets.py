"""What an epoch trains towards, of all rows of a buffer: values, advantages and returns, and how well values fit.

Flat tensors have an entry per token of the buffer, (n,). They are computed in blocks of whole questions, right-padded.
"""

from collections.abc import Callable, Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor

from ares.datamodules.buffer import RolloutBuffer
from ares.datamodules.parts import filled
from ares.datamodules.rollouts import RolloutData
from ares.models.policy import ValueModel
from ares.models.transfer import real_places, sent
from ares.rl.advantages import monte_carlo_returns
from ares.rl.losses import explained_variance
from ares.rl.masked import masked_whiten, sum_over_ranks
from ares.rl.objectives import LossSettings, Objective, Rollouts

_BLOCK = 2**20  # padded tokens of a block
_VALUE_ROWS = 4  # without gradients a batch has this many times the rows of a micro-batch


@torch.no_grad()
def buffer_values(model: ValueModel, data: RolloutData, trainer: pl.Trainer) -> Tensor:
    """The value model's values of all rows, (n,) float32 on its device; each rank computes its share."""
    device = trainer.strategy.root_device
    buffer = data.buffer
    found = torch.zeros(buffer.rewards.shape, device=device)
    parts = filled(_by_length(buffer), data.cost, rows=_VALUE_ROWS * data.micro, tokens=data.micro_tokens)
    chunks = [[row for rows in part for row in rows] for part in parts]
    # The same number of forward passes on every rank: a sharded model gathers its weights from all.
    chunks += [[]] * (-len(chunks) % trainer.world_size)
    for chunk in chunks[trainer.global_rank :: trainer.world_size]:
        batch = trainer.strategy.batch_to_device(buffer.batch(chunk), device)
        lengths, places = batch["lengths"], batch["places"]
        with trainer.precision_plugin.forward_context():
            values = model.values(batch["inputs"], batch["response_ids"], lengths)
        real = sent(real_places(lengths, places.shape[1]), device)
        found.index_copy_(0, places.flatten()[real], values.float().flatten()[real])
    # Every token is 0 on all ranks but one.
    return sum_over_ranks(found)


def epoch_targets(
    objective: Objective, buffer: RolloutBuffer, rewards: Tensor, values: Tensor, settings: LossSettings
) -> tuple[Tensor, Tensor]:
    """Advantages and returns (n,) of all rows, from token rewards (n,) and values (n,).

    With `settings.whiten` the advantages of an objective that is `whitened` have mean 0 and variance 1 over training
    rows, and are 0 on others.
    """

    def targets(block: Rollouts, padded: Tensor) -> tuple[Tensor, Tensor]:
        return objective.advantages(block, padded, settings)

    advantages, returns = _over_blocks(buffer, rewards, values, targets)
    if objective.whitened and settings.whiten:
        trained = torch.zeros_like(rewards)
        for row in buffer.train:
            trained[buffer.tokens(row)] = 1.0
        # Every rank holds all rows, so that the sums over ranks change nothing.
        advantages = masked_whiten(advantages, trained)
    return advantages, returns


def buffer_returns(buffer: RolloutBuffer, rewards: Tensor, *, gamma: float) -> Tensor:
    """The Monte-Carlo returns (n,) of all rows, from token rewards (n,)."""

    def returns(block: Rollouts, _: Tensor) -> tuple[Tensor, Tensor]:
        found = monte_carlo_returns(block.rewards, block.mask, gamma=gamma)
        return found, found

    return _over_blocks(buffer, rewards, rewards, returns)[0]


def _over_blocks(
    buffer: RolloutBuffer,
    rewards: Tensor,
    values: Tensor,
    compute: Callable[[Rollouts, Tensor], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    found = torch.zeros_like(rewards), torch.zeros_like(rewards)
    for rows in _blocks(buffer):
        places, mask = (tensor.to(rewards.device) for tensor in buffer.places(rows))
        real = mask.bool()
        number = {row: i for i, row in enumerate(rows)}
        block = Rollouts(
            rewards[places] * mask,
            mask,
            [buffer.lengths[row] for row in rows],
            [buffer.ends[row] for row in rows],
            [[number[row] for row in group] for group in buffer.groups(rows)],
        )
        for flat, padded in zip(found, compute(block, values[places] * mask), strict=True):
            flat[places[real]] = padded[real]
    return found


def _by_length(buffer: RolloutBuffer) -> list[list[int]]:
    """The rows of each question, those with the shortest responses first."""
    return sorted(buffer.groups(), key=lambda rows: (max(buffer.lengths[row] for row in rows), rows[0]))


def _blocks(buffer: RolloutBuffer) -> Iterator[list[int]]:
    """All rows, by length, in blocks of whole questions."""
    block: list[int] = []
    for rows in _by_length(buffer):
        longest = max(buffer.lengths[row] for row in rows)
        if block and (len(block) + len(rows)) * longest > _BLOCK:
            yield block
            block = []
        block += rows
    yield block


def value_fit(
    buffer: RolloutBuffer, rewards: Tensor, values: Tensor, rows: list[int], *, gamma: float
) -> float:
    """The explained variance of the Monte-Carlo returns of some rows by values (n,), from token rewards (n,)."""
    chosen = torch.zeros_like(rewards)
    for row in rows:
        chosen[buffer.tokens(row)] = 1.0
    return float(explained_variance(values, buffer_returns(buffer, rewards, gamma=gamma), chosen))
