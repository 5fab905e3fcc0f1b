"""Prints how a global batch is divided, before training."""

from typing import Protocol

from ares.ranks import is_first


class Batches(Protocol):
    """A data module: at most `micro` rows per forward pass, `accumulate` of these per step on each device."""

    micro: int
    accumulate: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        ...


def print_batches(
    label: str, data: Batches, *, rows: int, global_batch: int, world: int, epochs: int
) -> None:
    """Prints the resolved batch as a small table: per step of `world` devices, per epoch, in total."""
    cells = {
        "rows": rows,
        "global batch": global_batch,
        "devices": world,
        "micro batch": data.micro,
        "accumulation": data.accumulate,
        "steps per epoch": data.steps_per_epoch,
        "epochs": epochs,
        "steps": data.steps_per_epoch * epochs,
    }
    widths = [max(len(name), len(str(value))) for name, value in cells.items()]
    head = "  ".join(name.rjust(width) for name, width in zip(cells, widths, strict=True))
    body = "  ".join(str(value).rjust(width) for value, width in zip(cells.values(), widths, strict=True))
    if is_first():
        print(f"{label}\n  {head}\n  {body}", flush=True)
