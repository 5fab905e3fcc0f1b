"""Rows of benchmark files as questions, whatever their columns are called."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase as LETTERS
from typing import Any

from ares.evaluation.benchmarks.base import Item
from ares.evaluation.benchmarks.files import columns, pictures_of, read_rows
from ares.evaluation.benchmarks.pictures import Pictures
from ares.types import AresError, Problem

_QUESTION = ("question", "text", "query")
_ANSWER = ("answer_option", "answer", "label", "gt_answer", "correct_choice_idx", "gpt_answer", "gpt4_ans")
_HINT = ("hint", "context")


def read_items(path: Path, pictures: Pictures | None = None) -> list[Item]:
    """The questions of a benchmark's files, in order; without `pictures` they have no images.

    `index` is that of the file or, where it has none, the number of the row in all files, from 0.

    Raises AresError where a file is wrong, naming file, row and column.
    """
    items: dict[str, Item] = {}
    rows = [(place, row, columns(row)) for place, row in read_rows(path)]
    if pictures:
        _know(pictures, rows)
    for number, (place, row, fields) in enumerate(rows):
        index = fields.get("index") or str(number)
        if index in items:
            raise AresError(f"{place}, index {index} is that of another row; fetch the file again.")
        images = pictures_of(row, place, pictures) if pictures else ()
        items[index] = _item(index, place, row, fields, images)
    return list(items.values())


def problem_of(item: Item, choices: Sequence[str]) -> Problem:
    """A question as a problem for a policy that writes a rationale first."""
    blank: dict[str, Any] = dict.fromkeys(
        ["caption", "lecture", "solution", "subject", "topic", "category", "skill", "grade", "task"], ""
    )
    image = item.images[0] if item.images else None
    return Problem(
        pid=item.index,
        question=item.question,
        choices=tuple(choices),
        answer=None,
        hint=item.hint,
        image=image,
        images=item.images,
        split="test",
        **blank,
    )


def prompt_of(item: Item, template: str) -> str:
    """What a model is asked directly: hint, question and options where `template` has {question}."""
    lines = [f"Hint: {item.hint}"] if item.hint else []
    lines += [
        item.question,
        *(f"{letter}. {text}" for letter, text in zip(LETTERS, item.choices, strict=False)),
    ]
    return template.replace("{question}", "\n".join(lines))


def _know(pictures: Pictures, rows: Sequence[tuple[str, Mapping[str, object], Mapping[str, str]]]) -> None:
    """Decodes the pictures that later or earlier rows refer to by the index of their row."""
    indices = {fields.get("index"): (place, row) for place, row, fields in rows}
    for _, row, _ in rows:
        name = row.get("image")
        if isinstance(name, str) and name in indices and name not in pictures.known:
            place, owner = indices[name]
            pictures.known[name] = tuple(pictures.paths(owner["image"], place))


def _item(
    index: str, place: str, row: Mapping[str, object], fields: Mapping[str, str], images: tuple[Path, ...]
) -> Item:
    question, hint = _first(fields, _QUESTION), _first(fields, _HINT)
    if not question:
        raise AresError(f'{place}, column "question" is missing or empty; fetch the file again.')
    choices = _choices(place, fields)
    answer = _first(fields, _ANSWER)
    if choices and answer:
        answer = _letter(place, answer, choices, row)
    return Item(index, question, choices, answer, hint, images, fields)


def _first(fields: Mapping[str, str], names: Sequence[str]) -> str:
    return next((fields[name] for name in names if fields.get(name)), "")


def _choices(place: str, fields: Mapping[str, str]) -> tuple[str, ...]:
    """The options: a list in one column, or the columns A, B, C ... or choice_a, choice_b ... up to the first empty one."""
    listed = _first(fields, ("options", "choices"))
    if listed and listed not in ("[]", "null"):
        try:
            found = ast.literal_eval(listed)
        except (SyntaxError, ValueError):
            found = None
        if not isinstance(found, list):
            raise AresError(f"{place}, its options are no list; fetch the file again.")
        return tuple(map(str, found))
    for form in ("{}", "choice_{}"):
        texts = [fields.get(form.format(x if form == "{}" else x.lower()), "") for x in LETTERS]
        if texts[0]:
            return tuple(texts[: texts.index("")])
    return ()


def _letter(place: str, answer: str, choices: Sequence[str], row: Mapping[str, object]) -> str:
    """The letter of the right option, which files give as a letter, as a number from 0, or as its text."""
    letters, raw = LETTERS[: len(choices)], next((row[name] for name in _ANSWER if name in row), None)
    if isinstance(raw, int) and raw < len(choices):
        return letters[raw]
    # MathVista gives the text, even where an option is called A.
    is_text = answer in choices and row.get("question_type") == "multi_choice"
    if len(answer) == 1 and answer in letters and not is_text:
        return answer
    if answer in choices:
        return letters[list(choices).index(answer)]
    raise AresError(
        f'{place}, column "answer" is {answer!r}, which is none of its options; fetch the file again.'
    )
