"""Reads ScienceQA in its published layout: `problems.json`, `pid_splits.json`, `captions.json`, `images/`.

`data.hub` converts the hub copy to this layout.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ares.config.commands import call
from ares.data.captions import captions_of
from ares.data.checks import (
    HALF,
    TEXT_FIELDS,
    checked_root,
    has_half_character,
    is_id,
    kind,
    read_mapping,
    split_of_name,
)
from ares.data.rows import Row, parse_row
from ares.types import SPLITS, AresError, Problem

_PART = re.compile(r"mini|trainval")  # further splits that ScienceQA publishes
_REQUIRED = (*TEXT_FIELDS, "choices", "answer", "image")
_REQUIRED_OF_CONVERSIONS = ("question", "choices", "answer")


def read_scienceqa(
    root: Path | str | None, captions: Path | str | None = None
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid, in the file's order, and the pids of train, val and test, in the split's order.

    `root` holds `problems.json` (pid -> problem) and `pid_splits.json` (split -> pids; a split that is not
    there is empty, `validation` is val, `minitrain` and the like are ignored). `captions` is a file that maps pids to
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
    if not content:
        raise AresError(f"{path} holds no problems; put the data set's own file there.")
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
    content = _standard(path, read_mapping(path, "splits to lists of problem ids"))
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


def _standard(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The splits under their standard names; published parts such as minitrain are left out.

    Raises AresError where two names mean one split, or a name may mean a split that is not there.
    """
    found: dict[str, str] = {}
    for name in content:
        split = split_of_name(name)
        if split and split in found:
            raise AresError(f"{path} has a split {found[split]} and a split {name}; keep one.")
        if split:
            found[split] = name
    if not found:
        raise AresError(f"{path} has none of the splits {', '.join(SPLITS)}; rename them.")
    unknown = [name for name in content if name not in found.values() and not _PART.match(name)]
    if absent := [split for split in SPLITS if split not in found and unknown]:
        raise AresError(f"{path} has no split {absent[0]}, but one called {unknown[0]}; rename or remove it.")
    return {split: content[name] for split, name in found.items()}


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
