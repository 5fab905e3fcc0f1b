"""What a test runs in each process of a gloo group, and the group itself."""

import multiprocessing
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from ares.config.schema import RlConfig
from ares.models.policy import Policy
from ares.modules.ppo import run_ppo
from ares.modules.sharding import full
from tests.support.ppo import QUIET, make_buffer, new_value

# Processes are forked from a server that has imported everything: a group starts in a second.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.distributed.on_a_rank"])


def on_ranks(function: Callable[..., None], world: int, folder: Path, *arguments: Any) -> None:
    """Runs `function(rank, world, folder, *arguments)` in `world` processes with the environment and the store of an elastic agent."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    processes = [
        _CONTEXT.Process(target=_enter, args=(function, rank, world, folder, store.port, arguments))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * world


def _enter(
    function: Callable[..., None], rank: int, world: int, folder: Path, port: int, arguments: tuple[Any, ...]
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    torch.set_num_threads(1)
    function(rank, world, folder, *arguments)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Record(pl.Callback):
    """Records the gradients and weights of each optimizer step, and the rows of each batch of this rank."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self.rows: list[list[int]] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        real = batch["response_mask"].any(dim=1)
        self.rows.append(batch["rows"][real].tolist())

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients.append(
            {n: full(p.grad).clone() for n, p in module.named_parameters() if p.grad is not None}
        )

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        if len(self.weights) < trainer.global_step:
            self.weights.append({n: full(p.detach()).clone() for n, p in module.named_parameters()})
            self.metrics.append({n: float(v) for n, v in trainer.logged_metrics.items()})


def train_ppo(
    rank: int,
    world: int,
    folder: Path,
    cases: dict[str, RlConfig],
    questions: int,
    build: Callable[..., Policy],
    sharded: bool = False,
) -> None:
    """PPO in float64 over the same buffer whatever the world; each rank saves its record by case.

    `build` makes a policy from a seed.
    """
    for name, rl in cases.items():
        policy, reference = build(seed=0).double(), build(seed=9).double()
        buffer = make_buffer(policy, questions=questions, k=3, reference=reference)
        record = Record()
        strategy: Any = pl.strategies.DDPStrategy(timeout=timedelta(seconds=120)) if world > 1 else "auto"
        if sharded:
            strategy = pl.strategies.ModelParallelStrategy(world, 1, save_distributed_checkpoint=False)
        final = run_ppo(
            policy,
            new_value(policy),
            buffer,
            rl,
            seed=0,
            checkpoints=folder / name,
            trainer_arguments={
                **QUIET,
                "callbacks": [record],
                "devices": world,
                "strategy": strategy,
                # Converts image features, the only inputs that are float32; the sharding strategy does not know it.
                "precision": "64-true" if getattr(policy, "features", None) else "32-true",
                "default_root_dir": folder,
            },
        )
        kept = {"gradients": record.gradients, "weights": record.weights, "rows": record.rows}
        kept |= {"metrics": record.metrics, "final": final, "train": buffer.train}
        kept["policy"] = policy.state_dict()
        torch.save(kept, folder / f"{name}-{rank}-{world}.pt")
