"""Reads A-OKVQA: the official `aokvqa_v1p0_{train,val,test}.json` with COCO's 2017 folders, or its conversion
into ScienceQA's shape.

Schwenk et al. 2022, "A-OKVQA: A Benchmark for Visual Question Answering using World Knowledge".
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal

from ares.config.commands import call
from ares.data.captions import captions_of
from ares.data.checks import checked_root, kind
from ares.data.rows import Id, Row, parse_row
from ares.data.scienceqa import read_conversion
from ares.storage.files import hash_of, read_json
from ares.types import SPLITS, AresError, Problem

_ENDED = re.compile(r"[.!?…。！？।؟]['\"”’)\]]*$")
Rationale = Literal["first", "all", "sample"]


class OfficialRow(Row):
    """A question of the official files."""

    question_id: Id
    image_id: int


def read_aokvqa(
    root: Path | str | None,
    coco: Path | str | None = None,
    *,
    captions: Path | str | None = None,
    rationale: Rationale = "first",
    seed: int = 0,
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of train, val and test, in file order.

    From the official files (those of `root`; a split without one is empty) the pid is the `question_id`, the
    image is `<coco>/<split>2017/<image_id, 12 digits>.jpg`, `coco` being `<root>/coco` unless given, and what
    the test split withholds is None or empty. A folder with a `problems.json` is read as ScienceQA is.
    `solution` is the first of the rationales that are not blank, all of them as sentences, or one drawn by `seed` and pid. `captions` as in
    `read_scienceqa`.

    Raises AresError where a file is missing or wrong, naming the file, the question and the field.
    """
    folder = checked_root(
        root,
        "aokvqa_v1p0_train.json, or with problems.json and pid_splits.json",
        f"fetch the hub copy with `{call('stage=prepare', 'data=aokvqa')}`",
    )
    if (folder / "problems.json").is_file():
        problems, splits = read_conversion(folder, captions)
    else:
        problems, splits = _read_official(folder, Path(coco) if coco else folder / "coco", captions)
    return {pid: _with_solution(problem, rationale, seed) for pid, problem in problems.items()}, splits


def _read_official(
    root: Path, coco: Path, captions: Path | str | None
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    files = {split: root / f"aokvqa_v1p0_{split}.json" for split in SPLITS}
    if not any(path.is_file() for path in files.values()):
        raise AresError(
            f"{root} holds neither aokvqa_v1p0_train.json nor problems.json; put A-OKVQA's files there."
        )
    rows = {split: _rows(path) if path.is_file() else [] for split, path in files.items()}
    texts = captions_of({row.question_id for found in rows.values() for row in found}, root, captions)
    problems: dict[str, Problem] = {}
    for split, found in rows.items():
        for row in found:
            pid, image = row.question_id, coco / f"{split}2017" / f"{row.image_id:012}.jpg"
            if pid in problems:
                raise AresError(f"{files[split]}: question {pid} occurs twice; keep one.")
            problems[pid] = row.problem(pid, split, image, texts.get(pid, ""))
    return problems, {split: [row.question_id for row in found] for split, found in rows.items()}


def _rows(path: Path) -> list[OfficialRow]:
    content = read_json(path)
    if not isinstance(content, list):
        raise AresError(f"{path} holds {kind(content)}; it must be a list of questions.")
    return [_row(path, number, value) for number, value in enumerate(content, start=1)]


def _row(path: Path, number: int, value: Any) -> OfficialRow:
    row, clauses = parse_row(OfficialRow, _renamed(value))
    if row is None:
        name = value.get("question_id", "without question_id") if isinstance(value, dict) else ""
        raise AresError(f"{path}: question {number} ({name}), {clauses[0]}")
    return row


def _renamed(value: Any) -> Any:
    """A question with the field names of `Row`."""
    if not isinstance(value, dict):
        return value
    renamed = {
        "answer": value.get("correct_choice_idx"),
        "difficult": bool(value.get("difficult_direct_answer")),
    }
    return {**value, **renamed}


def _with_solution(problem: Problem, rationale: Rationale, seed: int) -> Problem:
    written = [text.strip() for text in problem.rationales if text.strip()]
    if not written:  # the test split, or a conversion that kept only one
        return problem
    chosen = {
        "first": written[0],
        "all": " ".join(text if _ENDED.search(text) else f"{text}." for text in written),
        "sample": written[int(hash_of([seed, problem.pid]), 16) % len(written)],
    }
    return dataclasses.replace(problem, solution=chosen[rationale])
