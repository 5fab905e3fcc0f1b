"""What a test runs in each process of a gloo group, and the group itself."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from ares.config.preference import PreferConfig
from ares.config.schema import FitConfig, RlConfig
from ares.datamodules.supervised import SupervisedData, encode
from ares.models.policy import Policy
from ares.models.reward import RewardModel
from ares.modules.ppo import run_ppo
from ares.modules.preference import run_preference
from ares.modules.sharding import full
from ares.modules.supervised import fit_supervised
from ares.types import Example
from tests.support.number_vlm import picture
from tests.support.ppo import QUIET, RL, make_buffer, new_value
from tests.support.preference import make_pairs, pair_buffer
from tests.support.reward import FIT, preferred, scored, train_reward

PPO = replace(RL, lr=1e-3, global_batch_size=16, micro_batch_size=2, kl_coef=0.1, decay="linear")
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
    """Records the gradients and weights of each optimizer step, and of each batch of this rank its rows and images.

    Ends the fit before micro-batch `stop_at`, an epoch and a number in it. `held`: the share of weights and of the optimizer's moments that is on this rank at the end. `computed`: the dtypes
    in which linear layers of blocks find their weights.
    """

    def __init__(self, stop_at: tuple[int, int] | None = None) -> None:
        self.stop_at = stop_at
        self.images: list[int] = []
        self.held: dict[str, float] = {}
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self.rows: list[list[int]] = []
        self.metrics: list[dict[str, float]] = []
        self.computed: set[str] = set()

    def on_fit_start(self, trainer, module):
        for block in module.policy.blocks:
            for layer in block.modules():
                if isinstance(layer, torch.nn.Linear):
                    layer.register_forward_pre_hook(lambda x, _: self.computed.add(str(x.weight.dtype)))

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        if (trainer.current_epoch, batch_index) == self.stop_at:
            raise KeyboardInterrupt
        if "rows" in batch:
            real = torch.tensor(batch["lengths"]) > 0
            self.rows.append(batch["rows"][real].tolist())
        samples = getattr(batch["inputs"], "samples", ())
        self.images.append(sum(len(sample.example.images) for sample in samples))

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients.append(
            {n: full(p.grad).clone() for n, p in module.named_parameters() if p.grad is not None}
        )

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        if len(self.weights) < trainer.global_step:
            self.weights.append({n: full(p.detach()).clone() for n, p in module.named_parameters()})
            self.metrics.append({n: float(v) for n, v in trainer.logged_metrics.items()})

    def on_train_end(self, trainer, module):
        [optimizer] = trainer.optimizers
        moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
        for name, tensors in {"weights": list(module.parameters()), "moments": moments}.items():
            local = sum(getattr(tensor, "_local_tensor", tensor).numel() for tensor in tensors)
            self.held[name] = local / sum(tensor.numel() for tensor in tensors)


def train_ppo(
    rank: int,
    world: int,
    folder: Path,
    cases: dict[str, RlConfig],
    questions: int,
    build: Callable[..., Policy],
    sharded: bool = False,
    stop_at: tuple[int, int] | None = None,
    minutes: float = 10,
) -> None:
    """PPO in float64 over the same buffer whatever the world; each rank saves its record by case.

    `build` makes a policy from a seed.
    """
    for name, rl in cases.items():
        policy, reference = build(seed=0).double(), build(seed=9).double()
        buffer = make_buffer(policy, questions=questions, k=3, reference=reference)
        record = Record(stop_at)
        final = run_ppo(
            policy,
            new_value(policy),
            buffer,
            rl,
            seed=0,
            checkpoints=folder / name,
            checkpoint_minutes=minutes,
            trainer_arguments=_trainer(policy, world, folder, record, sharded),
        )
        kept = {"gradients": record.gradients, "weights": record.weights, "rows": record.rows}
        kept |= {"images": record.images, "metrics": record.metrics, "final": final, "train": buffer.train}
        kept |= {"policy": policy.state_dict(), "held": record.held}
        torch.save(kept, folder / f"{name}-{rank}-{world}.pt")


def train_preference(
    rank: int, world: int, folder: Path, cases: dict[str, PreferConfig], build: Callable[..., Policy]
) -> None:
    """Preference optimization in float64 on the same pairs whatever the world; each rank saves its record by case."""
    for name, settings in cases.items():
        policy = build(seed=0).double()
        pairs, record = make_pairs(policy, 11), Record()
        ddpo = settings.ddpo if settings.loss == "ddpo" else None
        buffer = pair_buffer(policy, pairs, heldout=["q3"], ddpo=ddpo)
        arguments = _trainer(policy, world, folder, record, False)
        final = run_preference(
            policy,
            buffer,
            settings,
            seed=0,
            checkpoints=folder / f"{name}-{world}",
            checkpoint_minutes=10,
            trainer_arguments=arguments,
        )
        kept = {"gradients": record.gradients, "held": record.held, "final": final}
        torch.save({**kept, "policy": policy.state_dict()}, folder / f"{name}-{rank}-{world}.pt")


def _trainer(policy: Policy, world: int, folder: Path, record: Record, sharded: bool) -> dict[str, Any]:
    wait = timedelta(seconds=60)  # for the other ranks, before a collective fails
    strategy: Any = pl.strategies.DDPStrategy(timeout=wait) if world > 1 else "auto"
    if sharded:
        strategy = pl.strategies.ModelParallelStrategy(
            world, 1, save_distributed_checkpoint=False, timeout=wait
        )
    # Converts image features, the only inputs that are float32; the sharding strategy does not know it.
    precision = "64-true" if getattr(policy, "features", None) else "32-true"
    found = {"callbacks": [record], "devices": world, "strategy": strategy, "precision": precision}
    return {**QUIET, **found, "default_root_dir": folder}


def examples(count: int) -> list[Example]:
    """Prompts of up to 4 numbers, every fourth with an image; the target is the first two numbers and as many more as
    the example's number allows, so that texts end at different lengths."""
    found = []
    for number in range(count):
        words = [str(3 + (number + j) % 11) for j in range(1 + number % 4)]
        images = (picture(number),) if number % 4 == 0 else ()
        target = " ".join((words * 3)[: 2 + number % 5])
        found.append(Example(" ".join(words), target, f"q{number}", images, " ".join(words)))
    return found


def exact_share(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """The share of words of the references at the same place of the hypotheses."""
    pairs = [
        pair
        for texts in zip(references, hypotheses, strict=True)
        for pair in zip(*map(str.split, texts), strict=False)
    ]
    return sum(a == b for a, b in pairs) / sum(len(text.split()) for text in references)


def train_supervised(
    rank: int,
    world: int,
    folder: Path,
    name: str,
    build: Callable[..., Policy],
    sharded: bool = False,
    stop_at: tuple[int, int] | None = None,
    minutes: float = 10,
    mixed: bool = False,
) -> None:
    """Two epochs of fine-tuning on the same rows whatever the world, in float64 or bf16-mixed; each rank saves its record."""
    policy = build(seed=0) if mixed else build(seed=0).double()
    data = SupervisedData(pad_id=policy.pad_id, micro=2, accumulate=4 // world, eval_batch=2, seed=3)
    data.train = encode(policy, examples(13), max_output_tokens=8)
    data.val = encode(policy, examples(5), max_output_tokens=8)
    record = Record(stop_at)
    fit = FitConfig(
        epochs=2,
        lr=1e-2,
        global_batch_size=8,
        micro_batch_size=2,
        max_output_tokens=8,
        gradient_clip=0.5,
        eval_every_epochs=1,
    )
    arguments = _trainer(policy, world, folder, record, sharded)
    if mixed:
        arguments["precision"] = "bf16-mixed"
    final = fit_supervised(
        policy,
        data,
        fit,
        score=exact_share,
        metric="val/exact",
        block="sft",
        devices=world,
        checkpoints=folder / name,
        checkpoint_minutes=minutes,
        trainer_arguments=arguments,
    )
    kept = {"gradients": record.gradients, "weights": record.weights, "images": record.images}
    kept |= {"held": record.held, "computed": record.computed, "final": final, "policy": policy.state_dict()}
    torch.save(kept, folder / f"{name}-{rank}-{world}.pt")


def assert_same_gradients(together: dict, alone: dict) -> None:
    """Each optimizer step of two records has the same gradients, up to the order of sums in float64.

    A sharded network reads a prompt again for each response, and norms compute in float32.
    """
    for expected, found in zip(alone["gradients"], together["gradients"], strict=True):
        scale = max(g.abs().max() for g in expected.values())
        for parameter in expected:
            torch.testing.assert_close(
                found[parameter],
                expected[parameter],
                rtol=1e-6,
                atol=(1e-6 if together["held"].get("weights", 1) < 1 else 1e-9) * scale,
                msg=parameter,
            )
        # The warm-up's policy gradients are zeros on several ranks, absent on one; they are dropped either way.
        assert not any(found[parameter].any() for parameter in found.keys() - expected.keys())


def train_reward_model(
    rank: int, world: int, folder: Path, name: str, build: Callable[..., Policy], sharded: bool = False
) -> None:
    """Two epochs of a reward model on scores and pairs in float64, whatever the world; each rank saves its record."""
    model, record = RewardModel.on(build(seed=0), seed=0).double(), Record()
    fit = replace(FIT, global_batch_size=4, micro_batch_size=2, center=0.0)
    arguments = _trainer(model.policy, world, folder, record, sharded)
    labels, held_out = [*scored(range(7)), *preferred(range(7, 10))], scored(range(10, 13))
    final = train_reward(model, folder / name, labels, held_out, fit=fit, world=world, **arguments)
    kept = {"gradients": record.gradients, "held": record.held, "final": final, "model": model.state_dict()}
    torch.save(kept, folder / f"{name}-{rank}-{world}.pt")
