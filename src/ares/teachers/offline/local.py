"""Teachers that compute their replies from the problem itself: offline, free and deterministic."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ares.teachers.base import Reply, Request, Teacher
from ares.teachers.prompts.default import sentence_keys
from ares.text.prompts import strip_solution
from ares.text.sentences import sentences_of
from ares.types import Problem

if TYPE_CHECKING:
    from ares.teachers.ledger.ledger import Ledger


class LocalTeacher(Teacher):
    """Scores, repairs and judges from `evidence(problem)`, JSON in every request that determines the reply."""

    name: str
    version: str  # raise it whenever a reply may change: the ledger finds replies by it
    tie = 0.0  # mean scores of two rationales that differ by no more are a tie

    def __init__(self, ledger: "Ledger | None" = None) -> None:
        super().__init__(self.name, self.version, ledger)

    @abstractmethod
    def evidence(self, problem: Problem) -> Any:
        """What is known about a problem, as JSON; raises AresError if nothing is."""

    @abstractmethod
    def grade(self, evidence: Any, sentences: Sequence[str]) -> list[float]:
        """A score in [0, 1] for each sentence of one rationale."""

    @abstractmethod
    def repair(self, evidence: Any, sentences: Sequence[str]) -> list[str]:
        """The sentences of the repaired rationale."""

    def score_payload(self, problem: Problem, rationales: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The evidence and the sentences of each rationale."""
        return {"evidence": self.evidence(problem), "rationales": [list(own) for own in rationales]}

    def correct_payload(self, problem: Problem, rationale: str, sentences: Sequence[str]) -> dict[str, Any]:
        """The evidence, the rationale and its sentences."""
        return {"evidence": self.evidence(problem), "rationale": rationale, "sentences": list(sentences)}

    def judge_payload(self, problem: Problem, first: str, second: str) -> dict[str, Any]:
        """The evidence and both rationales."""
        return {"evidence": self.evidence(problem), "first": first, "second": second}

    async def send(self, request: Request) -> Reply:
        """Answers at once, in the form that `parsing` reads."""
        answer = {"score": self._score, "correct": self._correct, "judge": self._judge}[request.kind]
        return Reply(json.dumps(answer(request), ensure_ascii=False), 0, 0, 0.0)

    def fingerprint(self) -> dict[str, Any]:
        """Its name and version."""
        return {"name": self.name, "version": self.version}

    def scores(self, request: Request) -> list[list[float]]:
        """The scores of each rationale of a request."""
        return [self.grade(request.payload["evidence"], own) for own in request.payload["rationales"]]

    def _score(self, request: Request) -> dict[str, float]:
        scores = self.scores(request)
        keys = sentence_keys([len(own) for own in scores])
        return {
            key: score for pair in zip(keys, scores, strict=True) for key, score in zip(*pair, strict=True)
        }

    def _correct(self, request: Request) -> dict[str, str]:
        sentences = request.payload["sentences"]
        repaired = self.repair(request.payload["evidence"], sentences)
        kept = bool(sentences) and repaired == sentences
        return {"final_rationale": request.payload["rationale"] if kept else " ".join(repaired)}

    def _judge(self, request: Request) -> dict[str, str]:
        means = []
        for name in ("first", "second"):
            sentences = strip_solution(sentences_of(request.payload[name]))
            means.append(fmean(self.grade(request.payload["evidence"], sentences) or [0.0]))
        difference = means[0] - means[1]
        return {"winner": "tie" if abs(difference) <= self.tie else "first" if difference > 0 else "second"}
