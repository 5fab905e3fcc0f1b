"""A checker for the texts of untrained policies, which never hold an answer."""

import hashlib

from ares.evaluation.checkers import Checked
from ares.types import Problem


def by_text(problem: Problem, output: str) -> Checked:
    """Reads A or B from a hash of the text; A is right."""
    right = hashlib.sha256(output.encode()).digest()[0] % 2 == 0
    return Checked("A" if right else "B", right, False)
