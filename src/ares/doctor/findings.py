"""A finding of the doctor."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ares.types import AresError

_MARKS = {"ok": "ok", "note": "note", "problem": "PROBLEM"}


@dataclass(frozen=True)
class Finding:
    """`status` is ok, note (it works, with a caveat) or problem (the run cannot work); notes and problems have a
    `remedy`."""

    status: str
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{_MARKS[self.status]:<8} {self.subject:<12} {self.text}"
        return f"{line}\n{'':<22}→ {self.remedy}" if self.remedy else line


def parts(error: AresError) -> tuple[str, str]:
    """The problem and the remedy of a message, which a semicolon separates; of several mistakes, the first."""
    text, _, remedy = str(error).splitlines()[0].partition("; ")
    return text, remedy


def refusals(subject: str, check: Callable[[], object]) -> Iterator[Finding]:
    """A problem if `check` raises AresError."""
    try:
        check()
    except AresError as error:
        yield Finding("problem", subject, *parts(error))
