"""The verdict on two rationales from a Teacher's reply."""

import re
from typing import Literal

from ares.teachers.parsing.errors import FeedbackError
from ares.teachers.parsing.reasoning import without_reasoning

Winner = Literal["first", "second", "tie"]

_WINNER = re.compile(r"\b(first|second|tie)\b", re.IGNORECASE)
# The word after "winner", or the entire reply. Prose that mentions one of the two states no preference yet.
_STATED = re.compile(r"\W*(?:is\W+)?(?:(?:the|a)\W+)?(first|second|tie)\b", re.IGNORECASE)
_ALONE = re.compile(rf"{_STATED.pattern}(?:\W+(?:one|rationale))?\W*", re.IGNORECASE)


def parse_verdict(text: str) -> Winner:
    """Which rationale a reply prefers, from `winner: first|second|tie`; raises FeedbackError otherwise."""
    *before, after = re.split("winner", without_reasoning(text), flags=re.IGNORECASE)
    stated = _STATED.match(after) if before else _ALONE.fullmatch(after)
    if stated is None or len({match.lower() for match in _WINNER.findall(after)}) != 1:
        raise FeedbackError("no single winner in the reply")
    return stated[1].lower()  # type: ignore[return-value]
