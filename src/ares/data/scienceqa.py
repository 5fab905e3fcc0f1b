"""Reads ScienceQA in its published layout: `problems.json`, `pid_splits.json`, `captions.json`, `images/`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ares.store import read_json
from ares.types import SPLITS, AresError, Problem

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


def read_scienceqa(
    root: Path | str | None, captions: Path | str | None = None
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid, in the file's order, and the pids of train, val and test, in the split's order.

    `root` holds `problems.json` (pid -> problem) and `pid_splits.json` (split -> pids; a split that is not
    there is empty, further ones such as `minitrain` are ignored). `captions` is a file that maps pids to
    captions; None means `captions.json` in `root`, if there is one. Texts are kept as they are.

    Raises AresError where a file is missing or wrong, naming the file, the problem and the field.
    """
    root = _checked_root(root)
    path, splits_path = root / "problems.json", root / "pid_splits.json"
    rows = _read_mapping(path, "problem ids to problems")
    for pid, row in rows.items():
        _check_problem(path, pid, row)
    splits = _checked_splits(splits_path, rows)
    split_of = {pid: split for split, pids in splits.items() for pid in pids}
    texts = read_captions(captions if captions else root / "captions.json", optional=not captions)
    images = _image_finder(root / "images")
    problems = {}
    for pid, row in rows.items():
        split = split_of.get(pid, row.get("split", ""))
        problems[pid] = Problem(
            pid=pid,
            choices=tuple(row["choices"]),
            answer=row["answer"],
            caption=texts.get(pid, ""),
            image=images(split, pid, row["image"]) if row["image"] else None,
            split=split,
            **{name: row[name] for name in TEXT_FIELDS},
        )
    return problems, splits


def read_captions(path: Path | str, *, optional: bool = False) -> dict[str, str]:
    """Captions by pid from `{"captions": {...}}` or a plain mapping; a list of captions is joined by spaces.

    Without the file: {} if it is `optional`, else AresError. Raises AresError where a caption is not text.
    """
    path = Path(path)
    if optional and not path.exists():
        return {}
    content = _read_mapping(path, "problem ids to captions")
    found = content.get("captions", content)
    if not isinstance(found, dict):
        raise AresError(f'{path}: "captions" is {_kind(found)}; it must map problem ids to captions.')
    return {pid: _caption(path, pid, value) for pid, value in found.items()}


def _caption(path: Path, pid: str, value: Any) -> str:
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in parts):
        raise AresError(f"{path}: the caption of problem {pid} is {_kind(value)}; make it text.")
    return " ".join(parts)


def _checked_root(root: Path | str | None) -> Path:
    if not root or not Path(root).is_dir():
        missing = f"There is no folder {root}" if root else "data.root is not set"
        raise AresError(
            f"{missing}; set data.root=<the folder with ScienceQA's problems.json and pid_splits.json>, or use "
            "the built-in problems: `python train.py data=sample stage=ares model=tiny`."
        )
    return Path(root)


def _read_mapping(path: Path, meaning: str) -> dict[str, Any]:
    if not path.is_file():
        raise AresError(
            f"{path} is missing; put the file there or set data.root and data.captions to where it is."
        )
    content = read_json(path)
    if not isinstance(content, dict):
        raise AresError(f"{path} holds {_kind(content)}; it must be an object that maps {meaning}.")
    return content


def _checked_splits(path: Path, rows: Mapping[str, Any]) -> dict[str, list[str]]:
    content = _read_mapping(path, "splits to lists of problem ids")
    if not any(split in content for split in SPLITS):
        raise AresError(f"{path} has none of the splits {', '.join(SPLITS)}; name them so.")
    seen: dict[str, str] = {}
    splits: dict[str, list[str]] = {}
    for split in SPLITS:
        pids = content.get(split, [])
        if not isinstance(pids, list):
            raise AresError(f"{path}: split {split} is {_kind(pids)}; it must be a list of problem ids.")
        splits[split] = [str(pid) for pid in pids]
        for pid in splits[split]:
            if pid not in rows:
                raise AresError(
                    f"{path}: split {split} names problem {pid}, which problems.json does not have."
                )
            if pid in seen:
                raise AresError(
                    f"{path}: problem {pid} is in split {seen[pid]} and again in {split}; keep one."
                )
            seen[pid] = split
    return splits


def _check_problem(path: Path, pid: str, row: Any) -> None:
    def wrong(what: str) -> NoReturn:
        raise AresError(f"{path}: problem {pid}, {what}")

    if not isinstance(row, dict):
        raise AresError(f"{path}: problem {pid} is {_kind(row)}; it must be an object.")
    for name in (*TEXT_FIELDS, "choices", "answer", "image"):
        if name not in row:
            wrong(f'field "{name}" is missing; add it.')
    for name in TEXT_FIELDS:
        if not isinstance(row[name], str):
            wrong(f'field "{name}" is {_kind(row[name])}; make it text.')
    choices, answer, image = row["choices"], row["answer"], row["image"]
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
        wrong('field "choices" must be a non-empty list of texts.')
    if len(choices) > MAX_CHOICES:
        wrong(f'field "choices" has {len(choices)} choices; at most {MAX_CHOICES} (A to Z) can be answered.')
    if answer is not None and (isinstance(answer, bool) or not isinstance(answer, int)):
        wrong(
            f'field "answer" is {_kind(answer)}; make it the index of a choice, or null where it is withheld.'
        )
    if answer is not None and not 0 <= answer < len(choices):
        wrong(f'field "answer" is {answer}, out of range: it must be 0 to {len(choices) - 1}.')
    if image is not None and not isinstance(image, str):
        wrong(f'field "image" is {_kind(image)}; make it a file name or null.')


def _image_finder(folder: Path) -> Callable[[str, str, str], Path]:
    # The archives of the splits unpack to images/<split>/<pid>/; many copies have images/<pid>/.
    by_split = {split for split in SPLITS if (folder / split).is_dir()}

    def find(split: str, pid: str, name: str) -> Path:
        plain, nested = folder / pid / name, folder / split / pid / name
        if split not in by_split or (not nested.exists() and plain.exists()):
            return plain
        return nested

    return find


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
