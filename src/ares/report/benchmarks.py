"""The benchmark results of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ares.charts import number
from ares.pipeline.manifest import StepEntry
from ares.report.headline import HeadlineNumber
from ares.storage.files import read_json


@dataclass(frozen=True)
class BenchmarkResult:
    """The score of a benchmark by the rule of a suite, in the benchmark's own unit, and its other metrics by name.

    failed: outputs without a readable answer.
    """

    name: str
    rule: str
    questions: int
    failed: int
    score: float
    metrics: Mapping[str, float]

    @property
    def headline(self) -> HeadlineNumber:
        """The score as one number of a page's head."""
        note = f"{self.questions:,} questions, rule {self.rule}, {self.failed:,} without a readable answer"
        return HeadlineNumber(self.name, number(self.score), note)


def benchmarks_of(root: Path, steps: Mapping[str, StepEntry]) -> list[BenchmarkResult]:
    """What `stage=benchmark` scored in a run, one result per benchmark."""
    outputs = [
        entry.outputs["benchmark_scores"] for entry in steps.values() if "benchmark_scores" in entry.outputs
    ]
    found = []
    for output in outputs:
        scores = read_json(root / output.path)
        metrics = dict(scores["metrics"])
        score = metrics.pop("score")
        counts = scores["questions"], scores["failed"]
        found.append(BenchmarkResult(scores["benchmark"], scores["rule"], *counts, score, metrics))
    return found
