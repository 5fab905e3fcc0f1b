"""Reinforcement learning over scored rollouts as one plain fit.

ARES (section 3.2) rewards every sentence of a rationale and improves the policy with PPO. Rollouts are data here:
the buffer stays as it is and is visited `ppo_epochs` times, so that optimization, checkpointing and distribution
are Lightning's. The log-probabilities of the reference travel with the rollouts; no reference model is held.
"""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from ares.config.schema import RlConfig
from ares.datamodules.buffer import RolloutBuffer
from ares.datamodules.rollouts import RolloutData
from ares.models.adapters import merged_adapters
from ares.models.policy import Policy, ValueModel
from ares.modules.batching import print_batches
from ares.modules.checkpoint_files import checkpoint_to_resume
from ares.modules.checkpoints import FitCheckpoints, fit_trainer
from ares.modules.ppo_module import PPOModule
from ares.modules.sharding import gathered_again
from ares.rl.objectives import Objective, load_objective
from ares.types import AresError


def run_ppo(
    policy: Policy,
    value: ValueModel,
    buffer: RolloutBuffer,
    rl: RlConfig,
    *,
    seed: int,
    checkpoints: Path,
    checkpoint_minutes: float,
    trainer_arguments: dict[str, Any],
) -> dict[str, float]:
    """Trains policy and value model in place (on their device, eval mode afterwards); returns the last metrics.

    The value model is trained only where the objective needs one. A checkpoint is written to `checkpoints`/last.ckpt at
    least every `checkpoint_minutes`; one found there is resumed from, which ends in the same weights.
    `trainer_arguments` go to the Trainer (accelerator, devices, precision, callbacks, …). Raises AresError for a model with dropout, and where
    the rollouts are not the policy's or a loss or gradient is not finite.
    """
    _refuse_dropout(policy, value)
    pl.seed_everything(seed, verbose=False)
    objective = load_objective(rl.objective)
    warmup = rl.value_warmup_epochs if objective.needs_value else 0
    epochs = warmup + rl.ppo_epochs
    saving = FitCheckpoints(checkpoints, minutes=checkpoint_minutes, seed=seed)
    trainer = fit_trainer(saving, epochs, trainer_arguments, log_every_n_steps=1)
    data = RolloutData(
        buffer,
        global_batch=rl.global_batch_size,
        micro=rl.micro_batch_size,
        world=trainer.world_size,
        seed=seed,
        micro_tokens=rl.micro_batch_tokens,
        epochs=epochs,
    )
    trainer.accumulate_grad_batches = data.accumulate
    label = f"{rl.objective}: {warmup} epochs of value warm-up, {rl.ppo_epochs} of the policy"
    batch, world, rows = data.global_batch, data.world, len(buffer.train)
    print_batches(label, data, rows=rows, global_batch=batch, world=world, epochs=epochs)
    module = PPOModule(policy, _needed(value, objective), data, rl, objective)
    return _fit(module, trainer, checkpoint_to_resume(checkpoints))


def _needed(value: ValueModel, objective: Objective) -> ValueModel | None:
    """The value model if the objective needs one; otherwise None, and its weights are frozen."""
    if objective.needs_value:
        return value
    for _, weight in list(value.trained()):  # on the policy's network, ranks would wait for their gradients
        weight.requires_grad_(False)
    return None


def _refuse_dropout(policy: nn.Module, value: nn.Module) -> None:
    for name, model in (("policy", policy), ("value model", value)):
        if any(m.p > 0 for m in model.modules() if isinstance(m, nn.Dropout)):
            raise AresError(f"The {name} has dropout, which distorts PPO's ratios; load it with dropout 0.")


def _fit(module: PPOModule, trainer: pl.Trainer, checkpoint: Path | None) -> dict[str, float]:
    models, lora = module.models, module.rl.lora
    devices = [model.device for model in models]
    with (
        merged_adapters(models, r=lora.r, alpha=lora.alpha, targets=lora.targets, seed=module.data.seed),
        gathered_again(models, trainer) as trained,
    ):
        module.replace_models(trained)
        # Dropout is off by its rate; eval mode would only make Lightning warn.
        module.train()
        trainer.fit(module, module.data, ckpt_path=checkpoint)
    module.checks.report()
    # Lightning leaves a model on the CPU.
    for model, device in zip(models, devices, strict=True):
        model.to(device).eval()
    return module.metrics
