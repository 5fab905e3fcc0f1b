"""ScienceQA as the suites have it: a letter, by subject."""

from collections.abc import Mapping, Sequence

from ares.evaluation.benchmarks.base import Benchmark, Item, Scores
from ares.evaluation.benchmarks.letters import RULES, accuracy


def score(items: Sequence[Item], outputs: Mapping[str, str], rule: str) -> Scores:
    """Percent of right letters, in all and by subject (VLMEvalKit: by category)."""
    return accuracy(
        items, outputs, rule, lambda item: item.fields.get("subject") or item.fields.get("category", "")
    )


BENCHMARK = Benchmark(rules=tuple(RULES), score=score)
