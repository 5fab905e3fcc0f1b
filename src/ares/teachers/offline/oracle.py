"""The oracle: the exact truth about the generated sample, to see what a method gains from a Teacher that knows it.

A supporting sentence scores 1, a true but irrelevant one 0.5, a false, invented or repeated one 0; repairs and
verdicts are exact. What these words mean is defined in `ares.data.sample.oracle`.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ares.data.sample.items import SampleProblem, Truth
from ares.data.sample.oracle import LABELS, label_sentences, repair
from ares.teachers.base import Request
from ares.teachers.offline.local import LocalTeacher
from ares.types import AresError, Problem

if TYPE_CHECKING:
    from ares.teachers.ledger.ledger import Ledger

SCORES = {**dict.fromkeys(LABELS, 0.0), "supporting": 1.0, "irrelevant": 0.5}
_NOT_THE_SAMPLE = (
    "teacher=oracle knows the truth of the generated sample only; use data=sample, or another teacher."
)


class OracleTeacher(LocalTeacher):
    """Scores, repairs and judges `SampleProblem`s exactly, or with errors in its scores.

    With probability `noise` a sentence's score is replaced by one of the other two of (0, 0.5, 1), both equally
    likely. The draws, one or two per sentence in the order of the request, come from a generator seeded with the hash
    of the request, so the same request always gets the same reply. `data` is the name of the run's data set.
    """

    name = "oracle"
    version = "1"

    def __init__(self, *, noise: float = 0.0, data: str = "sample", ledger: "Ledger | None" = None) -> None:
        super().__init__(ledger)
        self.noise, self.data = float(noise), data

    def check(self) -> list[str]:
        """Raises AresError for any other data set than the sample."""
        if self.data != "sample":
            raise AresError(_NOT_THE_SAMPLE)
        return []

    def evidence(self, problem: Problem) -> dict[str, Any]:
        """The problem's truth; raises AresError for a problem of another data set."""
        if not isinstance(problem, SampleProblem):
            raise AresError(_NOT_THE_SAMPLE)
        return asdict(problem.truth)

    def grade(self, evidence: Any, sentences: Sequence[str]) -> list[float]:
        """The exact score of each sentence."""
        return [SCORES[found] for found in label_sentences(Truth.from_json(evidence), sentences)]

    def repair(self, evidence: Any, sentences: Sequence[str]) -> list[str]:
        """The true sentences, false ones made true, and the conclusion."""
        return repair(Truth.from_json(evidence), sentences)

    def score_payload(self, problem: Problem, rationales: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The problem's truth, the sentences of each rationale and the noise."""
        return {**super().score_payload(problem, rationales), "noise": self.noise}

    def scores(self, request: Request) -> list[list[float]]:
        """The scores of each rationale of a request, with the request's noise."""
        rng = random.Random(request.hash)
        noise = request.payload["noise"]
        return [[_perturbed(score, noise, rng) for score in own] for own in super().scores(request)]

    def fingerprint(self) -> dict[str, Any]:
        """Its name, version and noise."""
        return {**super().fingerprint(), "noise": self.noise}


def _perturbed(score: float, noise: float, rng: random.Random) -> float:
    if rng.random() >= noise:
        return score
    return rng.choice([other for other in (0.0, 0.5, 1.0) if other != score])
