"""The letter that an output chooses, by the rules of several suites; without one the output failed."""

import re
from collections.abc import Callable, Mapping, Sequence

from ares.evaluation.benchmarks.base import Item, Scores, scores_by
from ares.evaluation.benchmarks.items import problem_of
from ares.evaluation.checkers import mcq
from ares.text.prompts import LETTERS

_LAST = 4  # VLMEvalKit: the letter is one of the last four words
_NO_WORD = re.compile(r"[.()\[\],:;!*#{}]")


def lmms_eval(item: Item, output: str) -> str | None:
    """lmms-eval (SEED): the first character, which is wrong unless it is the letter; None if it is no option's."""
    first = output.strip()[:1]
    return first if first and first in LETTERS[: len(item.choices)] else None


def vlmevalkit(item: Item, output: str) -> str | None:
    """VLMEvalKit: exactly one option's letter among the words, and that among the last; else exactly one option's text.

    The text may be anywhere in an output that is at most twice as long as all options. Where VLMEvalKit would ask a
    judge, and in the end draw at random, this is None.
    """
    words, letters = _NO_WORD.sub(" ", output).split(), LETTERS[: len(item.choices)]
    named = [letter for letter in letters if letter in words]
    if len(named) == 1 and words.index(named[0]) >= len(words) - _LAST:
        return named[0]
    lower = output.lower()
    if len(lower) > 2 * sum(map(len, item.choices)):
        return None
    held = [letter for letter, choice in zip(letters, item.choices, strict=True) if choice.lower() in lower]
    return held[0] if len(held) == 1 else None


def ares(item: Item, output: str) -> str | None:
    """The checker `mcq`: the one letter, or the text of one choice, that the output states as its answer."""
    return mcq(problem_of(item, item.choices), output).parsed


RULES: Mapping[str, Callable[[Item, str], str | None]] = {
    "lmms_eval": lmms_eval,
    "vlmevalkit": vlmevalkit,
    "ares": ares,
}


def accuracy(
    items: Sequence[Item], outputs: Mapping[str, str], rule: str, group: Callable[[Item], str]
) -> Scores:
    """Percent of right letters, in all (`score`) and by group."""
    chosen = [RULES[rule](item, outputs[item.index]) for item in items]
    right = [letter == item.answer for letter, item in zip(chosen, items, strict=True)]
    return scores_by([group(item) for item in items], right, chosen.count(None))
