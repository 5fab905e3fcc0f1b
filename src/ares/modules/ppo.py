"""Reinforcement learning over scored rollouts as one plain fit.

ARES (section 3.2) rewards every sentence of a rationale and improves the policy with PPO. Rollouts are data here:
the buffer stays as it is and is visited `ppo_epochs` times, so that optimisation, checkpointing and distribution
are Lightning's. The log-probabilities of the reference travel with the rollouts; no reference model is held.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import nn

from ares.datamodules.collate import Features
from ares.datamodules.rollouts import RolloutBuffer, RolloutData
from ares.models.trunk import TrunkValue
from ares.modules.adapter import adapt, merge
from ares.modules.ppo_module import PPOModule
from ares.modules.sharding import copy_back, is_sharded
from ares.types import AresError, RlConfig


def run_ppo(
    policy: Any,
    value: Any,
    buffer: RolloutBuffer,
    rl: RlConfig,
    *,
    seed: int,
    features: Features | None,
    checkpoints: Path,
    trainer_arguments: dict[str, Any],
    callbacks: Sequence[Callback] = (),
) -> dict[str, float]:
    """Trains policy and value model in place (on their device, eval mode afterwards); returns the last figures.

    A checkpoint of every epoch is written to `checkpoints`/last.ckpt; one found there is resumed from, which
    ends in the same weights. `trainer_arguments` go to the Trainer (accelerator, devices, precision, logger, …).
    Raises AresError for a model with dropout, RuntimeError where the rollouts are not the policy's or a loss or
    gradient is not finite.
    """
    for name, model in (("policy", policy), ("value model", value)):
        if model is not None and any(m.p > 0 for m in model.modules() if isinstance(m, nn.Dropout)):
            raise AresError(f"The {name} has dropout, which spoils PPO's ratios; load it with dropout 0.")
    pl.seed_everything(seed, verbose=False)
    device = policy.device
    adapters = _adapted(policy, value, rl, features is not None)
    sharded = is_sharded(trainer_arguments.get("strategy"))
    # What is sharded is a copy; the whole models wait on the CPU for its weights.
    trained = copy.deepcopy((policy.cpu(), value.cpu())) if sharded else (policy, value)
    keep = ModelCheckpoint(
        checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    warmup = rl.value_warmup_epochs if rl.objective == "ppo" else 0
    trainer = pl.Trainer(
        **{**trainer_arguments, "log_every_n_steps": 1},
        max_epochs=warmup + rl.ppo_epochs,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        callbacks=[keep, *callbacks],
    )
    data = RolloutData(
        buffer,
        features=features,
        global_batch=rl.global_batch_size,
        micro=rl.micro_batch_size,
        world=trainer.world_size,
        seed=seed,
    )
    trainer.accumulate_grad_batches = data.accumulate
    module = PPOModule(*trained, data, rl)
    last = checkpoints / "last.ckpt"
    # Dropout is off by its rate; eval mode would only make Lightning warn.
    module.train()
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
    if sharded:
        copy_back(module.policy, policy)
        if module.value is not None:
            copy_back(module.value, value)
    for adapter, trainable in adapters:
        merge(adapter, trainable)
    # Lightning leaves a model on the CPU.
    for model in (policy, value):
        model.to(device).eval()
    return module.figures


def _adapted(
    policy: nn.Module, value: Any, rl: RlConfig, features: bool
) -> list[tuple[Any, dict[str, bool]]]:
    """Adapters on both models, with what was trainable before; a value head alone is trained as it is."""
    if not rl.lora.r:
        return []
    found = []
    for model in (policy, value):
        if model is not None and not isinstance(model, TrunkValue):
            trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
            adapter = adapt(
                model, r=rl.lora.r, alpha=rl.lora.alpha, targets=rl.lora.targets, features=features
            )
            found.append((adapter, trainable))
    return found
