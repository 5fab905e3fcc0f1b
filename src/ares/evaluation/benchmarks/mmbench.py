"""MMBench, circular and vanilla: mixing the two is the most common disagreement about it.

Liu et al. 2023, "MMBench: Is Your Multi-modal Model an All-around Player?".
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ares.evaluation.benchmarks.base import Benchmark, Item, Scores, by_group, share
from ares.evaluation.benchmarks.letters import RULES
from ares.evaluation.benchmarks.rotations import ROTATION, number_of
from ares.types import AresError


def score(items: Sequence[Item], outputs: Mapping[str, str], rule: str) -> Scores:
    """Percent by `circular` (a question is right if all its rotations are) and `vanilla` (the question as it is).

    Both by category, too. `score` is circular where there are rotations, else vanilla.
    """
    groups: dict[int, list[tuple[Item, bool]]] = defaultdict(list)
    chosen = {item.index: RULES[rule](item, outputs[item.index]) for item in items}
    for item in items:
        groups[number_of(item) % ROTATION].append((item, chosen[item.index] == item.answer))
    plain = [[own for own in group if number_of(own[0]) < ROTATION] for group in groups.values()]
    if not all(len(own) == 1 for own in plain):
        raise AresError("A question of MMBench is there twice, or only rotated; give the complete file.")
    names = [own[0][0].fields.get("category", "") for own in plain]
    kinds = {"vanilla": [own[0][1] for own in plain]}
    if len(items) > len(plain):
        kinds = {"circular": [all(right for _, right in group) for group in groups.values()], **kinds}
    metrics = {kind: share(right) for kind, right in kinds.items()}
    details = {
        f"{kind}/{name}": value
        for kind, right in kinds.items()
        for name, value in by_group(right, names).items()
    }
    headline = next(iter(metrics.values()))
    return Scores({"score": headline, **metrics, **details}, list(chosen.values()).count(None))


BENCHMARK = Benchmark(rules=("vlmevalkit", "ares"), score=score)
