"""SEED-Bench: questions with four choices, by type.

Li et al. 2023, "SEED-Bench: Benchmarking Multimodal LLMs with Generative Comprehension".
"""

from collections.abc import Mapping, Sequence

from ares.evaluation.benchmarks.base import Benchmark, Item, Scores
from ares.evaluation.benchmarks.letters import RULES, accuracy


def score(items: Sequence[Item], outputs: Mapping[str, str], rule: str) -> Scores:
    """Percent of right letters, in all and by type of question (lmms-eval's image and video, VLMEvalKit's categories)."""
    return accuracy(
        items, outputs, rule, lambda item: item.fields.get("data_type") or item.fields.get("category", "")
    )


BENCHMARK = Benchmark(rules=tuple(RULES), score=score)
