"""Reads TabMWP: the official `problems_{train,dev,test}.json` with the tables' pictures in `tables/`.

Lu et al. 2023, "Dynamic Prompt Learning via Policy Gradient for Semi-structured Mathematical Reasoning".
"""

from collections.abc import Iterator
from pathlib import Path

from ares.config.commands import call
from ares.data.checks import checked_root, read_mapping
from ares.data.published import Entry, collect, field_of
from ares.types import AresError, Problem

_FILES = {"train": ("train",), "val": ("dev", "dev1k"), "test": ("test", "test1k")}


def read_tabmwp(
    root: Path | str | None, captions: Path | str | None = None, *, table: bool = True
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid, TabMWP's own ids, and the pids of train, val (`dev`) and test, in file order.

    Without `problems_dev.json` or `problems_test.json` those of 1,000 questions (`dev1k`, `test1k`) are read. With
    `table` the hint is the table as text, for models that do not read its picture. The unit follows the question, as
    in the official prompts. A question with choices has an `answer`, one without a `direct_answers` of one entry.

    Raises AresError where a file is missing or wrong, naming the file, the problem and the field.
    """
    folder = checked_root(
        root, "TabMWP's problems_train.json", f"use the built-in problems: `{call('experiment=demo')}`"
    )
    return collect(_entries(folder, table), folder, captions)


def _entries(root: Path, table: bool) -> Iterator[Entry]:
    for split, names in _FILES.items():
        path = next((p for name in names if (p := root / f"problems_{name}.json").is_file()), None)
        content = read_mapping(path, "problem ids to problems") if path else {}
        for pid, row in content.items():
            place = f"{path}: problem {pid}"
            answer = field_of(place, row, "answer", str)
            choices = field_of(place, row, "choices", list) if row.get("choices") else []
            if choices and answer not in choices:
                raise AresError(
                    f'{place}, field "answer" is {answer!r}, which is none of its choices; correct one.'
                )
            title, cells = row.get("table_title") or "", field_of(place, row, "table", str)
            unit = f" (Unit: {row['unit']})" if row.get("unit") else ""
            fields = {
                "question": field_of(place, row, "question", str) + unit,
                "choices": choices,
                "answer": choices.index(answer) if choices else None,
                "direct_answers": [] if choices else [answer],
                "hint": f"{title}\n{cells}".strip() if table else "",
                "solution": row.get("solution") or "",
                "subject": "mathematics",
                "task": row.get("ques_type") or "",
                "category": row.get("ans_type") or "",
                "grade": f"grade{row['grade']}" if row.get("grade") else "",
            }
            yield Entry(split, pid, place, fields, root / "tables" / f"{pid}.png")
