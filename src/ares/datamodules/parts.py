"""An optimizer batch in micro-batches that fit in memory."""

from collections.abc import Callable, Sequence

# Rows that are computed together, such as those of one question.
Unit = list[int]


def filled(
    units: Sequence[Unit], cost: Callable[[Unit], int], *, rows: int, tokens: int | None
) -> list[list[Unit]]:
    """Successive units in parts of at most `rows` rows or, if not None, of at most `tokens` by `cost`; one unit may exceed it."""
    parts: list[list[Unit]] = []
    room = 0
    for unit in units:
        needed = len(unit) if tokens is None else cost(unit)
        if not parts or needed > room:
            parts.append([])
            room = rows if tokens is None else tokens
        parts[-1].append(unit)
        room -= needed
    return parts


def spread(parts: Sequence[list[Unit]], cost: Callable[[Unit], int], count: int) -> list[list[int]]:
    """The rows of at most `count` parts as exactly `count`: the costliest are halved, and what is left over is empty."""
    found = [list(part) for part in parts]
    while len(found) < count and any(len(part) > 1 for part in found):
        most = max(range(len(found)), key=lambda i: (len(found[i]) > 1, sum(map(cost, found[i]))))
        half = len(found[most]) // 2
        found[most : most + 1] = [found[most][:half], found[most][half:]]
    return [[row for unit in part for row in unit] for part in found] + [[]] * (count - len(found))
