"""Reads ChartQA in its published layout: `<split>/<split>_{human,augmented}.json` and `<split>/png/`.

Masry et al. 2022, "ChartQA: A Benchmark for Question Answering about Charts with Visual and Logical Reasoning".
"""

from collections.abc import Iterator
from pathlib import Path

from ares.config.commands import call
from ares.data.checks import checked_root
from ares.data.published import Entry, collect, field_of, rows_of
from ares.types import SPLITS, Problem

_PARTS = ("human", "augmented")


def read_chartqa(
    root: Path | str | None, captions: Path | str | None = None
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of train, val and test, in file order; questions are without choices.

    The files have no ids: a problem is called `<split>-<human or augmented>-<row>`, rows counted from 0. `category` is
    human or augmented, and the label is the one entry of `direct_answers`.

    Raises AresError where a file is wrong, naming the file, the row and the field, and for a folder without any.
    """
    folder = checked_root(
        root, "ChartQA's train/, val/ and test/", f"use the built-in problems: `{call('experiment=demo')}`"
    )
    return collect(_entries(folder), folder, captions)


def _entries(root: Path) -> Iterator[Entry]:
    files = [(split, part, root / split / f"{split}_{part}.json") for split in SPLITS for part in _PARTS]
    for split, part, path in files:
        for number, (place, row) in enumerate(rows_of(path) if path.is_file() else []):
            fields = {
                "question": field_of(place, row, "query", str),
                "direct_answers": [field_of(place, row, "label", str)],
                "category": part,
            }
            image = root / split / "png" / field_of(place, row, "imgname", str)
            yield Entry(split, f"{split}-{part}-{number}", place, fields, image)
