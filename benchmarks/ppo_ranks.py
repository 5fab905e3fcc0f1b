"""PPO on 1, 2 and 4 CPU processes (gloo) over the same rows: how far gradients and weights are from one process.

    python -m benchmarks.ppo_ranks

31 rationales of a tiny policy in float64, 16 per step, 2 per forward pass: nothing divides evenly. The baseline of `ddp` is
the run on one process in the same call; that of `fsdp`, which runs without image features here, another such run.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.distributed.on_a_rank import on_ranks, train_ppo
from tests.distributed.test_ppo_ranks import PPO, QUESTIONS


def run(folder: Path, world: int, strategy: str) -> list[dict[str, Any]]:
    """Each rank's record."""
    at = folder / f"{strategy}-{world}"
    at.mkdir()
    sharded = strategy == "fsdp"
    on_ranks(train_ppo, world, at, {"ppo": PPO}, QUESTIONS, not sharded, sharded and world > 1)
    return [torch.load(at / f"ppo-{rank}-{world}.pt", weights_only=True) for rank in range(world)]


def relative(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> float:
    """The largest difference of a tensor's elements by the largest element of its step."""
    worst = 0.0
    for step, reference in zip(found, expected, strict=True):
        scale = max(float(tensor.abs().max()) for tensor in reference.values())
        differences = (float((step[n] - t).abs().max()) for n, t in reference.items())
        worst = max(worst, max(differences) / scale)
    return worst


def line(strategy: str, ranks: list[dict[str, Any]], alone: dict[str, Any]) -> str:
    """One run against the one on a single process."""
    weights, reference = ranks[0]["weights"][4], alone["weights"][4]
    apart = max(float((weights[name] - tensor).abs().max()) for name, tensor in reference.items())
    epochs = PPO.ppo_epochs + PPO.value_warmup_epochs
    rows = sorted(row for rank in ranks for batch in rank["rows"] for row in batch)
    once = "once" if rows == sorted(alone["train"] * epochs) else "NOT once"
    gradients = relative(ranks[0]["gradients"], alone["gradients"])
    return f"{strategy}  {len(ranks)} processes  {gradients:.1e}  {apart:.1e}  each of {len(alone['train'])} rows {once}"


def main() -> None:
    """Prints the table."""
    print(
        "strategy, processes, gradients (relative, all steps), weights after 5 steps (absolute), rows per epoch"
    )
    with tempfile.TemporaryDirectory() as name:
        for strategy, worlds in (("ddp", (2, 4)), ("fsdp", (2, 4))):
            [alone] = run(Path(name), 1, strategy)
            for world in worlds:
                print(line(strategy, run(Path(name), world, strategy), alone), flush=True)


if __name__ == "__main__":
    main()
