"""Free answers as MMMU reads and compares them: texts, and numbers to two decimals."""

import ast
import re

from ares.evaluation.numbers import plain

_LEAD = re.compile(r"^.*(?:\banswer(?: is)?|\bis|\bequals?|=|\bare|\bgives|:)\s+", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?", re.IGNORECASE)


def open_answer(output: str) -> str | None:
    """The last sentence or line of an output, after "is", "=" and the like; None of an empty output."""
    lines = [line for line in re.split(r"\.\s|\n", output.strip()) if line.strip()]
    return plain(_LEAD.sub("", lines[-1].strip())) if lines else None


def agrees(answer: str, text: str) -> bool:
    """Whether a free answer holds one of the right texts, or one of its numbers is a right one.

    `answer`: the right one or, where several are right, a list of them as text.
    """
    try:
        listed = ast.literal_eval(answer) if answer.startswith("[") else [answer]
    except (SyntaxError, ValueError):
        listed = [answer]
    return any(_agrees(str(right), text) for right in listed)


def _agrees(right: str, text: str) -> bool:
    if exact := _NUMBER.fullmatch(right.strip()):
        return bool(_numbers(exact[0]) & _numbers(text))
    return plain(right) in text


def _numbers(text: str) -> set[float]:
    return {round(float(found.replace(",", "")), 2) for found in _NUMBER.findall(text)}
