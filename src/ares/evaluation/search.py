"""Search by sentence: solutions that a policy writes sentence by sentence under a Teacher's scores.

Pure functions; what writes and what scores is given. All questions advance together, so that each step is one batch of
the policy and one round of requests.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

UNSCORED = 0.5  # the value of a sentence that is not scored (it gives the answer), and of an end


@dataclass(frozen=True)
class Draft:
    """A response so far: its ids, its sentences, the index of the last token of each, and whether it has ended."""

    ids: tuple[int, ...] = ()
    sentences: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()
    complete: bool = False

    def first(self, count: int) -> "Draft":
        """The draft up to its sentence `count`; all of it where it has no more."""
        if count >= len(self.sentences):
            return self
        return Draft(
            self.ids[: self.ends[count - 1] + 1] if count else (), self.sentences[:count], self.ends[:count]
        )


@dataclass(frozen=True)
class Searched:
    """The draft that a search ended with, and the tokens that were written for it."""

    draft: Draft
    tokens: int = 0


# (pid, draft) in any number -> each draft continued to its end
Continue: TypeAlias = Callable[[Sequence[tuple[str, Draft]]], list[Draft]]
# Drafts by pid -> the scores of the sentences of each, None for a sentence that is not scored
Score: TypeAlias = Callable[[Mapping[str, Sequence[Draft]]], Mapping[str, list[list[float | None]]]]


def by_steps(
    pids: Sequence[str], width: int, continued: Continue, score: Score, *, longest: int
) -> dict[str, Searched]:
    """Sentence by sentence, the best of `width` continuations by the score of its next sentence; of equal ones the first.

    What the best one says after that sentence is the first of the next continuations, so that a width of 1 is a plain
    sample. `longest`: the most sentences of a solution.
    """
    found = {pid: Searched(Draft()) for pid in pids}
    ahead: dict[str, list[Draft]] = {pid: [] for pid in pids}  # the rest of the chosen continuation
    for count in range(1, longest + 1):
        going = [pid for pid in pids if not found[pid].draft.complete]
        asked = [(pid, found[pid].draft) for pid in going for _ in range(width - len(ahead[pid]))]
        written = iter(continued(asked) if asked else [])
        new = {pid: [next(written) for _ in range(width - len(ahead[pid]))] for pid in going}
        options = {pid: [*ahead[pid], *new[pid]] for pid in going}
        shown = {pid: [draft.first(count) for draft in own] for pid, own in options.items()}
        scores = score(shown) if going else {}
        for pid in going:
            values = [_value(own, count) for own in scores[pid]]
            best = max(range(width), key=values.__getitem__)
            tokens = sum(len(draft.ids) - len(found[pid].draft.ids) for draft in new[pid])
            found[pid] = Searched(shown[pid][best], found[pid].tokens + tokens)
            ahead[pid] = [options[pid][best]]
    return found


def by_repair(
    drafts: Mapping[str, Draft], rewrites: int, continued: Continue, score: Score, *, threshold: float
) -> dict[str, Searched]:
    """Each draft, cut at its first sentence below `threshold` and written on from there, at most `rewrites` times.

    The tokens are those of the rewriting.
    """
    found = {pid: Searched(draft) for pid, draft in drafts.items()}
    going = list(drafts)
    for _ in range(rewrites):
        scores = score({pid: [found[pid].draft] for pid in going}) if going else {}
        weak = {pid: _first_below(scores[pid][0], threshold) for pid in going}
        going = [pid for pid in going if weak[pid] is not None]
        kept = [(pid, found[pid].draft.first(weak[pid] or 0)) for pid in going]
        for (pid, prefix), draft in zip(kept, continued(kept) if kept else [], strict=True):
            found[pid] = Searched(draft, found[pid].tokens + len(draft.ids) - len(prefix.ids))
    return found


def _value(scores: Sequence[float | None], count: int) -> float:
    """The score of sentence `count`; of a draft that has ended before, UNSCORED."""
    own = scores[count - 1] if len(scores) >= count else None
    return UNSCORED if own is None else own


def _first_below(scores: Sequence[float | None], threshold: float) -> int | None:
    return next((i for i, own in enumerate(scores) if own is not None and own < threshold), None)
