"""Measures greedy rationales of held-out questions without a Teacher.

On the sample each sentence gets the label that the generator's truth gives it; on other data the rationale is compared
with the gold solution.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ares.data.sample.items import SampleProblem
from ares.data.sample.oracle import LABELS, Label, label_sentences
from ares.evaluation.rationales import gold_rationale
from ares.text.prompts import strip_solution
from ares.text.rouge import rouge_l_f
from ares.text.sentences import repetition_rate, sentences_of
from ares.types import Problem, Rationale


@dataclass(frozen=True)
class Assessment:
    """One rationale, measured.

    `labels` has one label per sentence (see `ares.data.sample.oracle`), on the sample only. `rouge_l`, in [0, 1], is
    None there and without a gold solution.
    """

    pid: str
    sentences: list[str]
    labels: list[Label] | None
    rouge_l: float | None
    repetition: float
    tokens: int
    truncated: bool

    def share(self, label: Label) -> float:
        """The share of the sentences with this label, in [0, 1]; 0 without a sentence."""
        return (self.labels or []).count(label) / max(1, len(self.sentences))

    @property
    def quality(self) -> float | None:
        """The share of supporting sentences, or ROUGE-L; None where there is neither."""
        return self.rouge_l if self.labels is None else self.share("supporting")


def assess_rationale(problem: Problem, row: Rationale) -> Assessment:
    """Measures one rationale."""
    sentences = strip_solution(sentences_of(row.text))
    labels, rouge_l = None, None
    if isinstance(problem, SampleProblem):
        labels = label_sentences(problem.truth, sentences)
    elif problem.has_solution:
        rouge_l = rouge_l_f(gold_rationale(problem), row.text)
    repetition = repetition_rate(row.text)
    return Assessment(row.pid, sentences, labels, rouge_l, repetition, len(row.token_ids), row.truncated)


def summarize(rows: Sequence[Assessment]) -> dict[str, float]:
    """Means over rationales: the share of each label or ROUGE-L, then repetition, sentences, tokens, share truncated."""

    def mean(measure: Callable[[Assessment], float]) -> float:
        return fmean(map(measure, rows)) if rows else 0.0

    found: dict[str, float] = {}
    if any(row.labels is not None for row in rows):
        found = {label: fmean(row.share(label) for row in rows) for label in LABELS}
    elif compared := [row.rouge_l for row in rows if row.rouge_l is not None]:
        found = {"rouge_l": fmean(compared)}
    return found | {
        "repetition": mean(lambda row: row.repetition),
        "sentences": mean(lambda row: len(row.sentences)),
        "tokens": mean(lambda row: row.tokens),
        "truncated": mean(lambda row: row.truncated),
    }
