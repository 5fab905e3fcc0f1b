"""Checks that all readers use, and words for JSON values in messages."""

from pathlib import Path
from typing import Any

from ares.storage.files import read_json
from ares.types import SPLITS, AresError

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
HALF = "holds half a character (a lone surrogate such as \\ud83d); write it in full or remove it"


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def has_half_character(text: str) -> bool:
    """Whether a text has a lone surrogate: JSON can spell it (\\ud83d), UTF-8 cannot encode it."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def is_id(value: Any) -> bool:
    """Whether a value can be the id of a problem and the name of its folder: text, not empty, no path."""
    return isinstance(value, str) and value not in ("", ".", "..") and not {"/", "\0"} & set(value)


def split_of_name(name: str) -> str | None:
    """Which of train, val and test a split's name means, in any case: `validation` is val; None for another name."""
    names = {
        "training": "train",
        **dict.fromkeys(("validation", "valid", "dev", "eval"), "val"),
        "testing": "test",
    }
    lower = name.strip().lower()
    return lower if lower in SPLITS else names.get(lower)


def checked_root(root: Path | str | None, files: str, remedy: str) -> Path:
    """The folder of a data set. Raises AresError where there is none, with the `files` it holds and a `remedy`."""
    if not root or not Path(root).is_dir():
        missing = f"There is no folder {root}" if root else "data.root is not set"
        raise AresError(f"{missing}; set data.root=<the folder with {files}>, or {remedy}.")
    return Path(root)


def read_mapping(path: Path, meaning: str) -> dict[str, Any]:
    """The object of a JSON file. Raises AresError where the file is missing or holds something else."""
    if not path.is_file():
        raise AresError(
            f"{path} is missing; put the file there or set data.root and data.captions to where it is."
        )
    content = read_json(path)
    if not isinstance(content, dict):
        raise AresError(f"{path} holds {kind(content)}; it must be an object that maps {meaning}.")
    return content
