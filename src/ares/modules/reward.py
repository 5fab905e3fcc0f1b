"""Fine-tuning of a reward model on sentence scores, on pairs, or on both."""

from typing import NamedTuple

import torch
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor

from ares.config.schema import RewardConfig
from ares.datamodules.reward import LabeledItems, RewardBatch
from ares.evaluation.agreement import HeldOut, agreement
from ares.models.reward import RewardModel
from ares.modules.supervised import FitModule
from ares.ranks import gather
from ares.rl.reward_model import bradley_terry_loss, pooled_rewards, score_loss


class Outputs(NamedTuple):
    """Of a batch: logits (S,) of sentences, rewards (B,) of rationales, and losses (nats) of scores and of pairs."""

    logits: Tensor
    rewards: Tensor
    of_scores: Tensor
    of_pairs: Tensor

    def held_out(self, batch: RewardBatch) -> HeldOut:
        """The predictions as what they are measured by."""
        scored = ~batch["scores"].isnan()
        pairs = torch.cat([batch["pairs"], batch["ranked"]])
        return HeldOut(
            scores=batch["scores"][scored].tolist(),
            predicted=self.logits[scored].sigmoid().tolist(),
            pairs=self.rewards[pairs].tolist(),
            loss=float(self.of_scores.sum() + self.of_pairs.sum()),
            labels=len(self.of_scores) + len(self.of_pairs),
        )


def outputs(model: RewardModel, batch: RewardBatch, fit: RewardConfig) -> Outputs:
    """What a reward model makes of a batch."""
    sentences, pairs = batch["sentences"], batch["pairs"]
    logits = model.logits(batch["inputs"], batch["response_ids"], batch["lengths"], sentences)
    rewards = pooled_rewards(logits, sentences[:, 0], len(batch["response_ids"]), fit.pool)
    scored = ~batch["scores"].isnan()
    return Outputs(
        logits,
        rewards,
        score_loss(logits[scored], batch["scores"][scored]),
        bradley_terry_loss(rewards[pairs[:, 0]], rewards[pairs[:, 1]], center=fit.center),
    )


@torch.no_grad()
def measure(model: RewardModel, rows: LabeledItems, fit: RewardConfig) -> list[tuple[str, HeldOut]]:
    """The question and the predictions of each row, in eval mode, on the model's device."""
    model.eval()
    found = []
    for number, item in enumerate(rows.items):
        batch = move_data_to_device(rows.batch([number], 1, model.policy.pad_id), model.device)
        found.append((item.pid, outputs(model, batch, fit).held_out(batch)))
    return found


class RewardModule(FitModule):
    """Cross-entropy of sentence scores and the Bradley–Terry loss of pairs, a mean over both kinds of labels."""

    policy: RewardModel
    fit: RewardConfig

    def __init__(self, model: RewardModel, fit: RewardConfig, *, total_steps: int, metric: str) -> None:
        super().__init__(model, fit, total_steps=total_steps, metric=metric, block="reward")
        self._held_out: list[HeldOut] = []

    def training_step(self, batch: RewardBatch, batch_index: int) -> Tensor:
        """This micro-batch's part of the optimizer batch's loss (nats per label)."""
        found = outputs(self.policy, batch, self.fit)
        # Without a label every weight still has a gradient, for which other ranks wait.
        total = found.of_scores.sum() + found.of_pairs.sum() + 0.0 * found.logits.sum()
        return self.step_loss(total, len(found.of_scores) + len(found.of_pairs), batch["denominator"])

    def on_validation_epoch_start(self) -> None:
        """Starts afresh."""
        self._held_out = []

    def validation_step(self, batch: RewardBatch, batch_index: int) -> None:
        """Keeps what is predicted of held-out labels."""
        self._held_out.append(outputs(self.policy, batch, self.fit).held_out(batch))

    def on_validation_epoch_end(self) -> None:
        """Logs how well the model agrees with the labels of all ranks."""
        found = agreement([part for rank in gather(self._held_out) for part in rank])
        for name, value in found.items():
            self.log(f"val/{name}", value, prog_bar=f"val/{name}" == self.metric)
