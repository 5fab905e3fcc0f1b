"""Greedy responses to many examples, part by part, so that a step that was killed continues where it was."""

from collections.abc import Callable, Mapping

from ares.ranks import gather, is_first
from ares.steps.common.contract import StepContext
from ares.storage.tables import read_rationales, write_rationales
from ares.types import Example, Rationale, Response

_BATCHES = 16  # in a part

# (examples, label of the progress line) -> a response to each, in their order, on every rank
Write = Callable[[Mapping[str, Example], str], list[Response]]


def by_parts(
    context: StepContext, examples: Mapping[str, Example], write: Write, *, split: str, batch_size: int
) -> list[Rationale]:
    """What `write` responds to all examples of a split, in their order; every rank must call it.

    Parts are kept with the step's checkpoints. Each is always of the same examples, so that its bytes do not depend
    on interruptions.
    """
    pids, size = list(examples), _BATCHES * batch_size
    parts = [pids[start : start + size] for start in range(0, len(pids), size)]
    paths = [context.checkpoints / f"{split}-{number}.parquet" for number in range(len(parts))]
    written = gather([path.exists() for path in paths])[0]  # as rank 0 sees them
    found: list[Rationale] = []
    for number, (path, part) in enumerate(zip(paths, parts, strict=True)):
        if written[number]:
            found += read_rationales(path)
            continue
        label = f"{context.key} {split}" + (f" {number + 1}/{len(parts)}" if len(parts) > 1 else "")
        rows = [Rationale(**vars(row)) for row in write({pid: examples[pid] for pid in part}, label)]
        if is_first():
            write_rationales(path, rows, context.provenance)
        found += rows
    return found
