"""Word overlap with the gold solution as a Teacher: for any data with solutions, free, without regard to meaning.

A sentence's score is its ROUGE-L F with the closest sentence of the gold solution. It rewards the gold wording, not the
truth: a correct paraphrase scores low, and a sentence that differs from a gold one in the decisive word scores high.
Use it to try out a run, not to draw conclusions about feedback.
"""

from collections.abc import Sequence
from typing import Any

from ares.teachers.messages import Unaskable
from ares.teachers.offline.local import LocalTeacher
from ares.text.rouge import rouge_l_f
from ares.text.sentences import sentences_of
from ares.types import Problem

KEPT_FROM = 0.5  # a repair keeps the sentences that score this much


class OverlapTeacher(LocalTeacher):
    """Scores by overlap with the gold solution, repairs with its sentences, judges by the mean scores."""

    name = "overlap"
    version = "1"
    tie = 0.05

    def evidence(self, problem: Problem) -> list[str]:
        """The sentences of the gold solution; raises Unaskable if there is none."""
        if not problem.has_solution:
            raise Unaskable(f"problem {problem.pid} has no gold solution to compare with")
        return sentences_of(problem.solution)

    def grade(self, evidence: Any, sentences: Sequence[str]) -> list[float]:
        """ROUGE-L F with the closest gold sentence, to three decimals; 0 for a repeated sentence."""
        return [
            0.0 if sentence in sentences[:i] else round(rouge_l_f(_closest(evidence, sentence), sentence), 3)
            for i, sentence in enumerate(sentences)
        ]

    def repair(self, evidence: Any, sentences: Sequence[str]) -> list[str]:
        """Replaces each sentence that scores below 0.5 by the closest unused gold sentence, or drops it.

        An empty rationale becomes the last gold sentence.
        """
        scores = self.grade(evidence, sentences)
        left = [gold for gold in evidence if gold not in sentences]
        repaired = []
        for sentence, score in zip(sentences, scores, strict=True):
            if score >= KEPT_FROM:
                repaired.append(sentence)
            elif left:
                repaired.append(_closest(left, sentence))
                left.remove(repaired[-1])
        return repaired or list(evidence[-1:])


def _closest(gold: Sequence[str], sentence: str) -> str:
    return max(gold, key=lambda candidate: rouge_l_f(candidate, sentence))
