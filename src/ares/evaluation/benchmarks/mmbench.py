"""MMBench, circular and vanilla: mixing the two is the most common disagreement about it.

Liu et al. 2023, "MMBench: Is Your Multi-modal Model an All-around Player?".
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ares.evaluation.benchmarks.base import Benchmark, Item, Scores, by_group, share
from ares.evaluation.benchmarks.letters import RULES
from ares.text.prompts import LETTERS
from ares.types import AresError

_ROTATION = 1_000_000  # a question's index plus this per rotation


def rotated(items: Sequence[Item]) -> list[Item]:
    """The questions, each followed by its rotations, in which every option moves up by one letter.

    As they are if the file has rotations.
    """
    if any(_number(item) >= _ROTATION for item in items):
        return list(items)
    return [_rotation(item, turn) for item in items for turn in range(max(1, len(item.choices)))]


def score(items: Sequence[Item], outputs: Mapping[str, str], rule: str) -> Scores:
    """Percent by `circular` (a question is right if all its rotations are) and `vanilla` (the question as it is).

    Both by category, too. `score` is circular where there are rotations, else vanilla.
    """
    groups: dict[int, list[tuple[Item, bool]]] = defaultdict(list)
    chosen = {item.index: RULES[rule](item, outputs[item.index]) for item in items}
    for item in items:
        groups[_number(item) % _ROTATION].append((item, chosen[item.index] == item.answer))
    plain = [
        [(item, right) for item, right in group if _number(item) < _ROTATION] for group in groups.values()
    ]
    if not all(len(own) == 1 for own in plain):
        raise AresError("A question of MMBench is there twice, or only rotated; give the complete file.")
    originals = [own[0] for own in plain]
    names = [item.fields.get("category", "") for item, _ in originals]
    kinds = {"vanilla": [right for _, right in originals]}
    if len(items) > len(originals):
        kinds = {"circular": [all(right for _, right in group) for group in groups.values()], **kinds}
    metrics = {kind: share(right) for kind, right in kinds.items()}
    details = {
        f"{kind}/{name}": value
        for kind, right in kinds.items()
        for name, value in by_group(right, names).items()
    }
    return Scores(
        {"score": next(iter(metrics.values())), **metrics, **details}, list(chosen.values()).count(None)
    )


def _number(item: Item) -> int:
    if not item.index.isdecimal():
        raise AresError(
            f"MMBench's question {item.index} has no number as its index; give the file as it is published."
        )
    return int(item.index)


def _rotation(item: Item, turn: int) -> Item:
    count = len(item.choices)
    if not turn:
        return item
    choices = tuple(item.choices[(place - turn) % count] for place in range(count))
    answer = LETTERS[(LETTERS.index(item.answer) + turn) % count] if item.answer else ""
    fields = {**item.fields, **dict(zip(LETTERS, choices, strict=False))}
    return replace(
        item, index=str(_number(item) + turn * _ROTATION), choices=choices, answer=answer, fields=fields
    )


BENCHMARK = Benchmark(rules=("vlmevalkit", "ares"), score=score)
