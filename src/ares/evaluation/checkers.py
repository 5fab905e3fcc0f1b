"""Checkers: whether an output answers its problem, by the answer rule of its data set.

A checker reads the answer that an output states ("The answer is (B).", "Answer: 12", \\boxed{12}) or, without such a
statement, the output that is nothing but an answer. It never guesses: an output without a readable answer, or with two
different ones, has failed, which is never correct.

What is right: `Problem.answer` for a problem with choices; a problem without (`choices=()`, `answer=None`) has its right
answer in `Problem.direct_answers`, which A-OKVQA's readers fill as well; several are equally right.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from ares.evaluation.numbers import number_in, plain
from ares.text.prompts import LETTERS
from ares.types import Problem


class Checked(NamedTuple):
    """The answer that was read in a form that equal answers share (None: none), and whether it is right.

    `failed`: whether none could be read.
    """

    parsed: str | None
    correct: bool
    failed: bool


Checker: TypeAlias = Callable[[Problem, str], Checked]
Equal: TypeAlias = Callable[[str, str], bool]

_STATED = re.compile(r"(?:\banswer\s*(?:is\b\s*:?|[:=])|####)\s*(?=(\S[^\n]*))", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
# Where a statement ends: with its sentence (not after an initial or a title), or before its reason.
_END = re.compile(r"(?<!\b[A-Z])(?<!\b(?:St|Mt|Mr|Dr|vs))\.(?=\s|$)|;|,?\s+(?:because|since)\b")
_OPTION = re.compile(r"\(([A-Z])\)[.:,]?(?:\s+(.*))?|([A-Z])(?:[.:,)](?:\s*(.*))?)?", re.DOTALL)
_WORDS = 8  # of an output that is nothing but an answer
_TOLERANCE = 0.05  # of ChartQA's relaxed accuracy
_DECIMALS = 3  # to which TabMWP compares numbers


def mcq(problem: Problem, output: str) -> Checked:
    """A letter in (A), A., A) or alone, or the text of exactly one choice; `parsed` is the letter."""
    return _chosen(problem, output, _same_text)


def geoqa(problem: Problem, output: str) -> Checked:
    """As `mcq`, but a choice is also named by its value: 60°, 60 degrees and $60^\\circ$ are the same.

    Without choices the value itself is compared.
    """
    if problem.choices:
        return _chosen(problem, output, _same_value)
    return _free(problem, output, _value, _same_value)


def relaxed_number(problem: Problem, output: str) -> Checked:
    """ChartQA's relaxed accuracy (Masry et al. 2022): numbers within 5 % of the right one, texts equal but for case.

    A percent sign and a currency are units, which are left out on both sides.
    """
    return _free(problem, output, _value, _within_tolerance)


def integer(problem: Problem, output: str) -> Checked:
    """A whole number, in digits or, from zero to twenty, as a word; anything else fails."""

    def whole(text: str) -> str | None:
        number = number_in(text)
        return None if number is None or not number.is_integer() else str(int(number))

    return _free(problem, output, whole, str.__eq__)


def tabmwp(problem: Problem, output: str) -> Checked:
    """As `mcq` with choices; without, numbers equal to three decimals (units left out), or texts equal but for case."""
    if problem.choices:
        return _chosen(problem, output, _same_text)
    return _free(problem, output, _value, _same_value)


def yes_no(problem: Problem, output: str) -> Checked:
    """Exactly one of the words yes and no, in the statement of the answer or else in the whole output."""
    words = {
        word
        for text in _statements(output) or [output]
        for word in re.findall(r"\b(?:yes|no)\b", text.casefold())
    }
    right = problem.direct_answers if problem.answer is None else (problem.choices[problem.answer],)
    return _checked(words, lambda parsed: any(parsed == plain(text) for text in right))


CHECKERS: dict[str, Checker] = {
    checker.__name__: checker for checker in (mcq, relaxed_number, integer, tabmwp, yes_no, geoqa)
}


def _checked(found: Iterable[str | None], right: Callable[[str], bool]) -> Checked:
    """The one answer among those that were read, judged; failed without any or with different ones."""
    distinct = {answer for answer in found if answer is not None}
    if len(distinct) != 1:
        return Checked(None, False, True)
    [parsed] = distinct
    return Checked(parsed, right(parsed), False)


def _statements(output: str) -> list[str]:
    """The answers that an output states, without what follows them in their lines."""
    stated = _BOXED.findall(output) or _STATED.findall(output)
    return [_END.split(re.sub(r"\\text\{([^{}]*)\}", r"\1", text))[0].strip(" *`\"'") for text in stated]


def stated(output: str) -> list[str]:
    """The answers that an output states or, without any, the output itself if it is short enough to be nothing else."""
    bare = output.strip()
    short = bool(bare) and "\n" not in bare and len(bare.split()) <= _WORDS
    return _statements(output) or ([bare] if short else [])


def _chosen(problem: Problem, output: str, same: Equal) -> Checked:
    """The choice that an output names by its letter or its text."""
    found = [_letter(problem, text, same) for text in stated(output)]
    return _checked(found, lambda letter: LETTERS.index(letter) == problem.answer)


def _letter(problem: Problem, text: str, same: Equal) -> str | None:
    text, letters = (
        re.sub(r"^(?:option|choice)\s+", "", text, flags=re.IGNORECASE),
        LETTERS[: len(problem.choices)],
    )
    option = _OPTION.fullmatch(text)
    if option and (letter := option[1] or option[3]) in letters:
        others = set(letters) - {letter}
        if not others & set(re.findall(r"\b[A-Z]\b", option[2] or option[4] or "")):
            return letter
    named = [letters[index] for index, choice in enumerate(problem.choices) if same(choice, text)]
    return named[0] if len(named) == 1 else None


def _free(problem: Problem, output: str, reader: Callable[[str], str | None], same: Equal) -> Checked:
    """The free answer of an output, compared with each right one, which is read in the same way."""
    found = [reader(text) for text in stated(output)]
    right = [reader(text) for text in problem.direct_answers]
    return _checked(found, lambda parsed: any(text is not None and same(text, parsed) for text in right))


def _value(text: str) -> str | None:
    """A number in its shortest form, or the plain text; None for a text without a word."""
    number = number_in(text)
    return f"{number:.12g}" if number is not None else plain(text) or None


def _same_text(first: str, second: str) -> bool:
    return plain(first) == plain(second)


def _same_value(first: str, second: str) -> bool:
    numbers = number_in(first), number_in(second)
    if numbers[0] is None or numbers[1] is None:
        return plain(first).replace(" ", "") == plain(second).replace(" ", "")
    return math.isclose(numbers[0], numbers[1], rel_tol=0, abs_tol=0.5 * 10**-_DECIMALS)


def _within_tolerance(right: str, answer: str) -> bool:
    numbers = number_in(right), number_in(answer)
    if numbers[0] is None or numbers[1] is None:
        return _same_text(right, answer)
    return abs(numbers[1] - numbers[0]) <= _TOLERANCE * abs(numbers[0])
