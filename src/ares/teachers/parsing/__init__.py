"""Strict reading of a Teacher's replies: exactly the requested content, or a FeedbackError."""

from ares.teachers.parsing.corrections import parse_correction
from ares.teachers.parsing.errors import FeedbackError
from ares.teachers.parsing.scores import parse_grouped_scores, parse_scores
from ares.teachers.parsing.verdicts import Winner, parse_verdict

__all__ = [
    "FeedbackError",
    "Winner",
    "parse_correction",
    "parse_grouped_scores",
    "parse_scores",
    "parse_verdict",
]
