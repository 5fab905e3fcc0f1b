"""Factual augmentation: what a reward model reads of a problem that the policy need not see (Sun et al. 2023)."""

from collections.abc import Collection
from dataclasses import replace

from ares.types import Problem


def with_facts(problem: Problem, facts: Collection[str]) -> Problem:
    """The problem with the named facts (of `ares.config.fits.FACTS`), and no others, as its context; the gold rationale comes first.

    `rationale` is the gold one. Of a context that is too long, the end of the hint is left out, then of the caption.
    """
    texts = {
        "rationale": problem.solution if problem.has_solution else "",
        "hint": problem.hint,
        "lecture": problem.lecture,
    }
    hint = " ".join(filter(None, (text.strip() for name, text in texts.items() if name in facts)))
    caption = problem.caption if "caption" in facts else ""
    images = problem.images if "image" in facts else ()
    return replace(problem, hint=hint, caption=caption, images=images, image=None)
