"""Problems of which a test states only what it depends on."""

from typing import Any

from ares.types import Problem

_DEFAULTS: dict[str, Any] = {
    "question": "Which is a plant?",
    "choices": ("a fern", "a rock"),
    "answer": 0,
    "hint": "",
    "caption": "",
    "lecture": "",
    "solution": "A fern is a plant.",
    "image": None,
    "split": "train",
    "subject": "natural science",
    "topic": "biology",
    "category": "Plants",
    "skill": "Identify plants",
    "grade": "grade1",
    "task": "closed choice",
}


def make_problem(pid: str = "1", **fields: Any) -> Problem:
    """A text-only problem about a fern, with `fields` replaced."""
    return Problem(pid=pid, **{**_DEFAULTS, **fields})
