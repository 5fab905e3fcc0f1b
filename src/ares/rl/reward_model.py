"""Training of reward models: losses on sentence scores and on pairs, and the reward of a response."""

import torch
from torch import Tensor
from torch.nn import functional as F


def score_loss(logits: Tensor, scores: Tensor) -> Tensor:
    """The cross-entropy of soft targets, (S,) nats: minimal where σ(logit) is the expected score.

    `logits` (S,), `scores` (S,) in [0, 1].
    """
    return F.binary_cross_entropy_with_logits(logits, scores.to(logits), reduction="none")


def bradley_terry_loss(chosen: Tensor, rejected: Tensor, *, center: float) -> Tensor:
    """−log σ(r_c − r_r) + center · |mean(r_c + r_r)| of pairs with rewards (P,) each: (P,) nats.

    The likelihood of the preference (Bradley and Terry 1952; Ouyang et al. 2022); the second term keeps rewards around 0,
    which differences do not determine (Sun et al. 2023).
    """
    offset = (chosen + rejected).sum().abs() / max(1, len(chosen))
    return -F.logsigmoid(chosen - rejected) + center * offset


def pooled_rewards(logits: Tensor, rows: Tensor, count: int, pool: str) -> Tensor:
    """The rewards (count,) of responses from the logits (S,) of their sentences; 0 for a response without any.

    `rows` (S,) int64: the response of each sentence, in order. `pool`: the "mean", or that of the "last" sentence.
    """
    if pool == "last":
        last = torch.cat([rows[1:] != rows[:-1], rows.new_ones(min(1, len(rows))).bool()])
        return logits.new_zeros(count).index_add(0, rows[last], logits[last])
    sentences = logits.new_zeros(count).index_add(0, rows, torch.ones_like(logits))
    return logits.new_zeros(count).index_add(0, rows, logits) / sentences.clamp(min=1)
