"""A question from outside any data set, checked and made a problem."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from pydantic import ConfigDict

from ares.data.rows import Row, Text, parse_row
from ares.types import AresError, Problem


class Question(TypedDict):
    """The arguments of `Model.ask`: paths of images are relative to the working directory."""

    question: str
    choices: Sequence[str]
    hint: NotRequired[str]
    caption: NotRequired[str]
    image: NotRequired[str | Path | None]
    images: NotRequired[Sequence[str | Path]]


class AskedRow(Row):
    """The fields of a question: those of a row of custom data, of which only question and choices must be there."""

    model_config = ConfigDict(extra="forbid")

    pid: Text = ""
    split: Text = ""
    caption: Text = ""
    images: list[Text] | None = None


def problem_of(question: Mapping[str, Any], pid: str) -> Problem:
    """The problem of a question. Raises AresError, with a clause for each field that is wrong."""
    present: Any = question
    if isinstance(question, Mapping):
        present = {name: _plain(value) for name, value in question.items() if value is not None}
    row, clauses = parse_row(AskedRow, present)
    if row is None:
        raise AresError(" ".join(clauses))
    image = Path(row.image) if row.image else None
    problem = row.problem(pid, "test", image, row.caption, [Path(name) for name in row.images or ()])
    for path in problem.images:
        if not path.is_file():
            raise AresError(f"There is no image {path}; give the path of a file.")
    return problem


def _plain(value: Any) -> Any:
    """Paths as texts, and any sequence as a list."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
