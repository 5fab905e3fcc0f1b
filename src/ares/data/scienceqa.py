"""Reads ScienceQA in its published layout: `problems.json`, `pid_splits.json`, `captions.json`, `images/`.

`data.hub` converts the hub copy to this layout.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ares.config.commands import call
from ares.data.captions import captions_of
from ares.data.checks import HALF, TEXT_FIELDS, checked_root, has_half_character, is_id, kind, read_mapping
from ares.data.rows import Row, parse_row
from ares.types import SPLITS, AresError, Problem

_VALIDATION = ("validation", "valid", "dev")  # other names of val
_REQUIRED = (*TEXT_FIELDS, "choices", "answer", "image")
_REQUIRED_OF_CONVERSIONS = ("question", "choices", "answer")


def read_scienceqa(
    root: Path | str | None, captions: Path | str | None = None
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid, in the file's order, and the pids of train, val and test, in the split's order.

    `root` holds `problems.json` (pid -> problem) and `pid_splits.json` (split -> pids; a split that is not
    there is empty, `validation` is val, further ones such as `minitrain` are ignored). `captions` is a file that maps pids to
    captions; None means `captions.json` in `root`, if there is one. Texts are kept as they are.

    Raises AresError where a file is missing or wrong, naming the file, the problem and the field.
    """
    folder = checked_root(
        root,
        "ScienceQA's problems.json and pid_splits.json",
        f"use the built-in problems: `{call('experiment=demo')}`",
    )
    return _read_layout(folder, captions, _REQUIRED)


def read_conversion(
    root: Path | str, captions: Path | str | None = None
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """`read_scienceqa` of another data set in ScienceQA's shape: only question, choices and answer must be there.

    Beyond ScienceQA's, the fields `rationales`, `direct_answers` and `difficult` are read.
    """
    return _read_layout(Path(root), captions, _REQUIRED_OF_CONVERSIONS)


def _read_layout(
    root: Path, captions: Path | str | None, required: tuple[str, ...]
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    path, splits_path = root / "problems.json", root / "pid_splits.json"
    content = read_mapping(path, "problem ids to problems")
    rows = {pid: _row(path, pid, row, required) for pid, row in content.items()}
    splits = _checked_splits(splits_path, rows)
    split_of = {pid: split for split, pids in splits.items() for pid in pids}
    texts = captions_of(rows, root, captions)
    images = _image_finder(root / "images")
    problems = {}
    for pid, row in rows.items():
        split = split_of.get(pid, content[pid].get("split", ""))
        image = images(split, pid, row.image) if row.image else None
        problems[pid] = row.problem(pid, split, image, texts.get(pid, ""))
    return problems, splits


def _checked_splits(path: Path, rows: Mapping[str, Any]) -> dict[str, list[str]]:
    content = read_mapping(path, "splits to lists of problem ids")
    for name in _VALIDATION:
        if name in content:
            if "val" in content:
                raise AresError(f"{path} has a split val and a split {name}; keep one.")
            content = {**content, "val": content[name]}
    if not any(split in content for split in SPLITS):
        raise AresError(f"{path} has none of the splits {', '.join(SPLITS)}; rename them.")
    seen: dict[str, str] = {}
    splits: dict[str, list[str]] = {}
    for split in SPLITS:
        pids = content.get(split, [])
        if not isinstance(pids, list):
            raise AresError(f"{path}: split {split} is {kind(pids)}; it must be a list of problem ids.")
        splits[split] = [str(pid) for pid in pids]
        for pid in splits[split]:
            if pid not in rows:
                raise AresError(
                    f"{path}: split {split} lists problem {pid}, which problems.json does not have."
                )
            if pid in seen:
                raise AresError(
                    f"{path}: problem {pid} is in split {seen[pid]} and again in {split}; keep one."
                )
            seen[pid] = split
    return splits


def _row(path: Path, pid: str, value: Any, required: tuple[str, ...]) -> Row:
    if has_half_character(pid):
        raise AresError(f'{path}: problem {pid!r}, field "pid" {HALF}.')
    if not is_id(pid):
        raise AresError(f"{path}: problem {pid!r}, its id must be a non-empty text without a slash.")
    row, clauses = parse_row(Row, value, required)
    if row is None:
        raise AresError(f"{path}: problem {pid}, {clauses[0]}")
    return row


def _image_finder(folder: Path) -> Callable[[str, str, str], Path]:
    # The archives of the splits unpack to images/<split>/<pid>/; many copies have images/<pid>/.
    by_split = {split for split in SPLITS if (folder / split).is_dir()}

    def find(split: str, pid: str, name: str) -> Path:
        plain, nested = folder / pid / name, folder / split / pid / name
        if split not in by_split or (not nested.exists() and plain.exists()):
            return plain
        return nested

    return find
