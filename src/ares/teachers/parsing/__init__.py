"""Reading a Teacher's replies strictly: exactly what was asked for, or a FeedbackError."""

from ares.teachers.parsing.replies import (
    FeedbackError,
    Winner,
    parse_correction,
    parse_grouped_scores,
    parse_scores,
    parse_verdict,
)

__all__ = [
    "FeedbackError",
    "Winner",
    "parse_correction",
    "parse_grouped_scores",
    "parse_scores",
    "parse_verdict",
]
