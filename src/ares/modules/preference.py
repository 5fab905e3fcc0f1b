"""Preference optimization over pairs as one plain fit; the reference's log-probabilities travel with the pairs."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from ares.config.preference import PreferConfig
from ares.datamodules.pairs import PairBuffer, PairData
from ares.models.policy import Policy
from ares.modules.batching import print_batches
from ares.modules.checkpoint_files import AtomicCheckpointIO, checkpoint_to_resume
from ares.modules.checkpoints import FitCheckpoints
from ares.modules.preference_module import PreferenceModule
from ares.modules.sharding import gathered_again


def run_preference(
    policy: Policy,
    buffer: PairBuffer,
    prefer: PreferConfig,
    *,
    seed: int,
    checkpoints: Path,
    checkpoint_minutes: float,
    trainer_arguments: dict[str, Any],
) -> dict[str, float]:
    """Trains the policy, whose dropout is 0, in place (on its device, eval mode afterwards); returns the last metrics.

    A checkpoint is written to `checkpoints`/last.ckpt at least every `checkpoint_minutes`; one found there is resumed
    from, which ends in the same weights. Raises AresError where the pairs' reference log-probabilities are not the
    policy's, or a loss or gradient is not finite.
    """
    pl.seed_everything(seed, verbose=False)
    saving = FitCheckpoints(checkpoints, minutes=checkpoint_minutes, seed=seed)
    trainer = _trainer(saving, prefer.epochs, trainer_arguments)
    data = PairData(
        buffer,
        global_batch=prefer.global_batch_size,
        micro=prefer.micro_batch_size,
        world=trainer.world_size,
        seed=seed,
        micro_tokens=prefer.micro_batch_tokens,
        epochs=prefer.epochs,
    )
    trainer.accumulate_grad_batches = data.accumulate
    rows, batch, world = len(buffer.train), data.global_batch, data.world
    print_batches(
        f"{prefer.loss}: pairs", data, rows=rows, global_batch=batch, world=world, epochs=prefer.epochs
    )
    module, device = PreferenceModule(policy, data, prefer), policy.device
    with gathered_again([policy], trainer) as [module.policy]:
        module.train()  # dropout is off by its rate; eval mode would only make Lightning warn
        trainer.fit(module, data, ckpt_path=checkpoint_to_resume(checkpoints))
    module.checks.report()
    policy.to(device).eval()  # Lightning leaves a model on the CPU
    return module.metrics


def _trainer(saving: FitCheckpoints, epochs: int, arguments: dict[str, Any]) -> pl.Trainer:
    return pl.Trainer(
        **{**arguments, "log_every_n_steps": 1, "callbacks": [saving, *arguments.get("callbacks", ())]},
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,  # Lightning's own
        max_epochs=epochs,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
    )
