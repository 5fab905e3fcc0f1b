"""The reference Teacher: offline, deterministic and free, from the problem's own solution, lecture, choices
and answer.

It counts words where a language model would read (`knowledge`), and is good for demos, tests and as a fixed
measure that no run pays for. A request holds all it sees; `send` depends on nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ares.teachers.base import Reply, Request, Teacher
from ares.teachers.offline.knowledge import Knowledge
from ares.teachers.offline.readings import Material, sentences_of
from ares.teachers.offline.repair import assess_all, repair
from ares.teachers.prompts.default import sentence_keys, strip_solution
from ares.types import Problem

if TYPE_CHECKING:
    from ares.teachers.ledger.ledger import Ledger

VERSION = "1"  # raise it whenever a score or a repair may change: replies in ledgers are found by it
_TIE = 0.05


class ReferenceTeacher(Teacher):
    """Scores, repairs and judges by word counts; with a `ledger` its replies are recorded there."""

    def __init__(self, name: str = "reference", ledger: "Ledger | None" = None) -> None:
        super().__init__(name, VERSION, ledger)

    def score_payload(self, problem: Problem, rationales: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The problem as this Teacher sees it, and the sentences of each rationale."""
        return {
            "problem": asdict(Material.of(problem)),
            "rationales": [list(sentences) for sentences in rationales],
        }

    def correct_payload(self, problem: Problem, rationale: str, sentences: Sequence[str]) -> dict[str, Any]:
        """The problem as this Teacher sees it, the rationale and its sentences."""
        return {"problem": asdict(Material.of(problem)), "rationale": rationale, "sentences": list(sentences)}

    def judge_payload(self, problem: Problem, first: str, second: str) -> dict[str, Any]:
        """The problem as this Teacher sees it, and both rationales."""
        return {"problem": asdict(Material.of(problem)), "first": first, "second": second}

    async def send(self, request: Request) -> Reply:
        """Answers at once, without a network."""
        answer = {"score": _score, "correct": _correct, "judge": _judge}[request.kind]
        seen = request.payload["problem"]
        knowledge = _knowledge(Material(**{**seen, "choices": tuple(seen["choices"])}))
        return Reply(json.dumps(answer(knowledge, request.payload), ensure_ascii=False), 0, 0, 0.0)

    def fingerprint(self) -> dict[str, Any]:
        """Its name and version."""
        return {"name": self.name, "version": self.prompt_version}


@lru_cache(maxsize=4096)
def _knowledge(material: Material) -> Knowledge:
    return Knowledge(material)


def _score(knowledge: Knowledge, payload: Mapping[str, Any]) -> dict[str, float]:
    rationales = payload["rationales"]
    keys = sentence_keys([len(sentences) for sentences in rationales])
    return {
        key: assessment.score
        for own, sentences in zip(keys, rationales, strict=True)
        for key, assessment in zip(own, assess_all(knowledge, sentences), strict=True)
    }


def _correct(knowledge: Knowledge, payload: Mapping[str, Any]) -> dict[str, str]:
    return {"final_rationale": repair(knowledge, payload["rationale"], payload["sentences"])}


def _judge(knowledge: Knowledge, payload: Mapping[str, Any]) -> dict[str, str]:
    means = []
    for name in ("first", "second"):
        sentences = strip_solution(sentences_of(payload[name]))
        scores = [assessment.score for assessment in assess_all(knowledge, sentences)]
        means.append(fmean(scores) if scores else 0.0)
    difference = means[0] - means[1]
    return {"winner": "tie" if abs(difference) < _TIE else "first" if difference > 0 else "second"}
