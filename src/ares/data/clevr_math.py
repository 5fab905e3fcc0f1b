"""Reads CLEVR-Math: the official `clevr-math-{train,val,test}.json` with CLEVR's images.

Lindström and Abraham 2022, "CLEVR-Math: A Dataset for Compositional Language, Visual and Mathematical Reasoning".
"""

from collections.abc import Iterator
from pathlib import Path

from ares.config.commands import call
from ares.data.checks import checked_root
from ares.data.published import Entry, collect, field_of
from ares.storage.files import read_object
from ares.types import SPLITS, Problem


def read_clevr_math(
    root: Path | str | None, captions: Path | str | None = None, *, images: Path | str | None = None
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of train, val and test, in file order; answers are whole numbers.

    The files have no ids of questions: a problem is called `<split>-<row>`, rows counted from 0. `images` is the folder
    with train/, val/ and test/ (null: `CLEVR_v1.0/images` in `root`); `category` is the template of the question.

    Raises AresError where a file is wrong, naming the file, the row and the field, and for a folder without any.
    """
    folder = checked_root(
        root, "clevr-math-train.json", f"use the built-in problems: `{call('experiment=demo')}`"
    )
    pictures = Path(images) if images else folder / "CLEVR_v1.0" / "images"
    return collect(_entries(folder, pictures), folder, captions)


def _entries(root: Path, pictures: Path) -> Iterator[Entry]:
    for split in SPLITS:
        path = root / f"clevr-math-{split}.json"
        rows = field_of(str(path), read_object(path), "questions", list) if path.is_file() else []
        for number, row in enumerate(rows):
            place = f"{path}: row {number + 1}"
            fields = {
                "question": field_of(place, row, "question", str),
                "direct_answers": [str(field_of(place, row, "answer", int))],
                "category": str(row.get("template_filename") or "").removesuffix(".json"),
            }
            folder = pictures / str(row.get("split") or split)
            image = folder / field_of(place, row, "image_filename", str)
            yield Entry(split, f"{split}-{number}", place, fields, image)
