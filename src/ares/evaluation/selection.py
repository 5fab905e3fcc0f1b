"""Selection among sampled solutions of a question, and its accuracy; pure functions.

Of the candidates of a question, in the order in which they were sampled, a rule selects one. A candidate without a
readable answer is selected only where no other is there, and is wrong.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

from ares.evaluation.statistics import paired_bootstrap
from ares.storage.solutions import Solution

GROUP = 3  # candidates that a policy is shown at once, as in its lessons

Groups: TypeAlias = Mapping[str, Sequence[Solution]]  # by pid


@dataclass(frozen=True)
class Accuracy:
    """How often the selection among `n` candidates by a rule is right.

    `accuracy` and the ends of its 95 % interval in percent, bootstrap over questions; `tokens`: written per question.
    """

    by: str
    n: int
    accuracy: float
    low: float
    high: float
    tokens: float
    questions: int


def readable(rows: Sequence[Solution]) -> list[Solution]:
    """The candidates with a readable answer; all of them if none has one."""
    return [row for row in rows if row.answer is not None] or list(rows)


def first(rows: Sequence[Solution]) -> Solution:
    """The first candidate, whether or not its answer can be read: one sample per question."""
    return rows[0]


def majority(rows: Sequence[Solution]) -> Solution:
    """The first candidate with the most frequent answer; of equally frequent ones, the answer that was given first."""
    counts = Counter(row.answer for row in readable(rows))
    return max(readable(rows), key=lambda row: counts[row.answer])


def oracle(rows: Sequence[Solution]) -> Solution:
    """A right candidate if there is one: what a perfect rule would reach."""
    return next((row for row in rows if row.correct), rows[0])


def best_scored(
    rows: Sequence[Solution], scores: Mapping[str, Sequence[float] | None], pool: str = "mean"
) -> Solution:
    """The candidate whose sentences score best, by their mean or the lowest of them; of equal ones, the first.

    `scores` by row_id; a candidate without scores is below all others.
    """
    combine: Callable[[Sequence[float]], float] = fmean if pool == "mean" else min

    def value(row: Solution) -> float:
        own = scores.get(row.row_id)
        return combine(own) if own else -1.0

    return max(readable(rows), key=value)


# Groups of candidates by pid -> the answer that the policy gives for each (None: unreadable), and the tokens it wrote.
Ask: TypeAlias = Callable[[Groups], Mapping[str, tuple[str | None, int]]]


@dataclass(frozen=True)
class SelfSelected:
    """The candidate that a policy selects itself, and what that took: tokens, and replies that named no candidate."""

    solution: Solution
    tokens: int = 0
    failed: int = 0


def self_select(candidates: Groups, ask: Ask) -> dict[str, SelfSelected]:
    """The policy's own choice for each question: it is shown three candidates, then the chosen one with two others.

    Where the answers do not differ nothing is asked. A reply that gives no candidate's answer leaves the first readable
    candidate of the group.
    """
    found = {pid: SelfSelected(rows[0]) for pid, rows in candidates.items()}
    for start in range(1, max(map(len, candidates.values()), default=0), GROUP - 1):
        groups = {
            pid: [found[pid].solution, *rows[start : start + GROUP - 1]] for pid, rows in candidates.items()
        }
        replies = ask({pid: rows for pid, rows in groups.items() if _differ(rows)})
        for pid, rows in groups.items():
            answer, tokens = replies.get(pid, (None, 0))
            named = [row for row in rows if row.answer is not None and row.answer == answer]
            found[pid] = SelfSelected(
                (named or readable(rows))[0],
                found[pid].tokens + tokens,
                found[pid].failed + (pid in replies and not named),
            )
    return found


def _differ(rows: Sequence[Solution]) -> bool:
    return len({row.answer for row in rows if row.answer is not None}) > 1


def accuracy_of(by: str, n: int, right: Sequence[bool], tokens: Sequence[int]) -> Accuracy:
    """The accuracy over questions, of which `right` and `tokens` have one entry each."""
    mean, low, high = (100 * value for value in paired_bootstrap([0.0] * len(right), right))
    return Accuracy(by, n, mean, low, high, fmean(tokens), len(right))
