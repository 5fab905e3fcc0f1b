"""What every data set's rows must be, and how it is said when they are not."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ares.storage.files import read_json
from ares.types import AresError

MAX_CHOICES = 26  # answers are the letters A to Z
TEXT_FIELDS = (
    "question",
    "hint",
    "task",
    "grade",
    "subject",
    "topic",
    "category",
    "skill",
    "lecture",
    "solution",
)
_HALF = re.compile("[\ud800-\udfff]")


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def has_half_character(value: Any) -> bool:
    """Whether a text, or one of a list, has half of a character: JSON can spell it (\\ud83d), no file can hold it."""
    texts = value if isinstance(value, list) else [value]
    return any(isinstance(text, str) and _HALF.search(text) for text in texts)


def halves(row: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    """The fields of `names` that `has_half_character`, a clause each."""
    for name in names:
        if has_half_character(row.get(name)):
            yield f'field "{name}" holds half a character (a lone surrogate such as \\ud83d); write it whole or remove it.'


def is_id(value: Any) -> bool:
    """Whether a value can be a problem's id, which names folders and rows: text, not empty, no path."""
    return isinstance(value, str) and value not in ("", ".", "..") and not {"/", "\0"} & set(value)


def checked_root(root: Path | str | None, files: str, remedy: str) -> Path:
    """The folder of a data set; raises AresError where there is none, naming the `files` it holds and a `remedy`."""
    if not root or not Path(root).is_dir():
        missing = f"There is no folder {root}" if root else "data.root is not set"
        raise AresError(f"{missing}; set data.root=<the folder with {files}>, or {remedy}.")
    return Path(root)


def read_mapping(path: Path, meaning: str) -> dict[str, Any]:
    """The object of a JSON file; raises AresError where the file is missing or holds something else."""
    if not path.is_file():
        raise AresError(
            f"{path} is missing; put the file there or set data.root and data.captions to where it is."
        )
    content = read_json(path)
    if not isinstance(content, dict):
        raise AresError(f"{path} holds {kind(content)}; it must be an object that maps {meaning}.")
    return content


def problems_with(row: Any, required: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with a row's fields, a clause each: 'field "answer" is text; make it ...'.

    Beside `required`, the fields of `TEXT_FIELDS` must be texts where they are there.
    """
    if not isinstance(row, dict):
        yield f"it is {kind(row)}; it must be an object."
        return
    missing = [name for name in required if name not in row]
    yield from (f'field "{name}" is missing; add it.' for name in missing)
    for name in TEXT_FIELDS:
        if name in row and not isinstance(row[name], str):
            yield f'field "{name}" is {kind(row[name])}; make it text.'
    if "choices" in row:
        yield from _wrong_choices(row["choices"], row.get("answer"))
    image = row.get("image")
    if image is not None and not isinstance(image, str):
        yield f'field "image" is {kind(image)}; make it a file name or null.'
    yield from halves(row, (*TEXT_FIELDS, "choices", "image"))


def _wrong_choices(choices: Any, answer: Any) -> Iterator[str]:
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
        yield 'field "choices" must be a non-empty list of texts.'
        return
    if len(choices) > MAX_CHOICES:
        yield f'field "choices" has {len(choices)} choices; at most {MAX_CHOICES} (A to Z) can be answered.'
    if answer is None:
        return
    # A column with withheld answers is one of floats where pandas wrote it.
    integral = isinstance(answer, int) or (isinstance(answer, float) and answer.is_integer())
    if isinstance(answer, bool) or not integral:
        yield f'field "answer" is {kind(answer)}; make it the index of a choice, or null where it is withheld.'
    elif not 0 <= answer < len(choices):
        yield f'field "answer" is {answer}, out of range: it must be 0 to {len(choices) - 1}.'


def wrong_texts(row: Mapping[str, Any], name: str) -> Iterator[str]:
    """What is wrong with a field that is to be a list of texts, where it is there."""
    value = row.get(name)
    if value is not None and (
        not isinstance(value, list) or not all(isinstance(text, str) for text in value)
    ):
        yield f'field "{name}" must be a list of texts.'
    yield from halves(row, (name,))
