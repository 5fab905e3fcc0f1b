"""How a global batch is divided, printed before training."""


def batch_table(
    label: str,
    *,
    rows: int,
    global_batch: int,
    micro: int,
    accumulate: int,
    world: int,
    steps: int,
    epochs: int,
) -> str:
    """The resolved batch as a small table: per step of `world` devices, per epoch, in total.

    `micro` is the maximum number of rows per forward pass; a step has fewer than `global_batch` rows where an epoch
    does not fill its steps.
    """
    cells = {
        "rows": rows,
        "global batch": global_batch,
        "devices": world,
        "micro batch": micro,
        "accumulation": accumulate,
        "steps per epoch": steps,
        "epochs": epochs,
        "steps": steps * epochs,
    }
    widths = [max(len(name), len(str(value))) for name, value in cells.items()]
    head = "  ".join(name.rjust(width) for name, width in zip(cells, widths, strict=True))
    body = "  ".join(str(value).rjust(width) for value, width in zip(cells.values(), widths, strict=True))
    return f"{label}\n  {head}\n  {body}"
