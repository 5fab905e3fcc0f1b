"""Reads GeoQA: conversations (the ShareGPT form, as Geo170K has it) or the original pickles.

Chen et al. 2021, "GeoQA: A Geometric Question Answering Benchmark Towards Multimodal Numerical Reasoning"; Gao et al.
2023, "G-LLaVA: Solving Geometric Problem with Multi-Modal Large Language Model" (Geo170K).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase as LETTERS
from typing import Any

from ares.config.commands import call
from ares.data.checks import checked_root
from ares.data.geoqa_pickle import read_pickle, write_picture
from ares.data.published import Entry, collect, field_of, rows_of
from ares.types import AresError, Problem

_CONVERSATIONS = {
    "train": ("train.json", "train.jsonl", "qa_tuning.json"),
    "val": ("val.json", "val.jsonl"),
    "test": ("test.json", "test.jsonl"),
}
_PICKLES = {"train": "train.pk", "val": "dev.pk", "test": "test.pk"}
_CHOICE = re.compile(r"(?:^|\s)\(?([A-Z])\)?\s*[:.)]\s*")
_ANSWER = re.compile(r"(?:^|\bAnswer\s*:)\s*\(?([A-Z])\)?\.?\s*$", re.IGNORECASE)


def read_geoqa(
    root: Path | str | None, captions: Path | str | None = None
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of train, val and test, in file order.

    Conversations (`train.json` or Geo170K's `qa_tuning.json`, `val.json`, `test.json`, also as JSONL): the first turn
    asks, with "Choices:" and a letter before each; the second explains and ends in "Answer: <letter>". What precedes that
    is the `solution`. A problem is called `<split>-<row>`, rows counted from 0, and its image is in `images/`. Pickles
    (`train.pk`, `dev.pk`, `test.pk`) have ids of their own, and pictures, which are written to `images/` once.

    Raises AresError where a file is wrong, naming the file, the row and the field, and for a folder without any.
    """
    folder = checked_root(
        root, "GeoQA's train.json or train.pk", f"use the built-in problems: `{call('experiment=demo')}`"
    )
    return collect(_entries(folder), folder, captions)


def _entries(root: Path) -> Iterator[Entry]:
    for split, names in _CONVERSATIONS.items():
        path = next((p for name in names if (p := root / name).is_file()), None)
        if path is not None:
            for number, (place, row) in enumerate(rows_of(path)):
                yield _conversation(root, split, number, place, row)
        elif (pickle := root / _PICKLES[split]).is_file():
            for place, row in read_pickle(pickle):
                yield _original(root, split, place, row)


def _conversation(root: Path, split: str, number: int, place: str, row: Any) -> Entry:
    turns = field_of(place, row, "conversations", list)
    if len(turns) != 2:
        raise AresError(
            f'{place}, field "conversations" has {len(turns)} turns; it must have a question and an answer.'
        )
    asked, reply = (
        field_of(f"{place}, turn {n}", turn, "value", str) for n, turn in enumerate(turns, start=1)
    )
    text = asked.replace("<image>", "").strip()
    question, _, options = text.rpartition("Question:")[2].partition("Choices:")
    parts = _CHOICE.split(options)[1:]
    choices = [choice.strip() for choice in parts[1::2]]
    if not choices or "".join(parts[::2]) != LETTERS[: len(choices)]:
        raise AresError(
            f'{place}, turn 1 does not list its choices as "Choices:" with A: ..., B: ...; correct it.'
        )
    found = _ANSWER.search(reply)
    if not found or LETTERS.index(found[1].upper()) >= len(choices):
        raise AresError(
            f'{place}, turn 2 does not end in "Answer: <letter>" with the letter of a choice; correct it.'
        )
    fields = {
        "question": question.strip(),
        "choices": choices,
        "answer": LETTERS.index(found[1].upper()),
        "solution": reply[: found.start()].strip(),
        "subject": "mathematics",
    }
    image = field_of(place, row, "image", str)
    nested = root / "images" / image
    return Entry(
        split,
        f"{split}-{number}",
        place,
        fields,
        nested if nested.exists() or not (root / image).exists() else root / image,
    )


def _original(root: Path, split: str, place: str, row: Any) -> Entry:
    pid, points = str(row.get("id", "")), row.get("formal_point") or []
    fields = {
        "question": row.get("English_problem") or field_of(place, row, "subject", str),
        "choices": field_of(place, row, "choices", list),
        "answer": field_of(place, row, "label", int),
        "solution": row["answer"] if isinstance(row.get("answer"), str) else "",
        "subject": "mathematics",
        "topic": ", ".join(map(str, points)),
    }
    if not pid:
        raise AresError(f'{place}, field "id" is missing; add it.')
    return Entry(
        split,
        f"{split}-{pid}",
        place,
        fields,
        write_picture(root / "images" / f"{split}-{pid}.png", place, row),
    )
