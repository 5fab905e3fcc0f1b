"""Reads A-OKVQA: the official `aokvqa_v1p0_{train,val,test}.json` with COCO's 2017 folders, or its conversion
into ScienceQA's shape.

Schwenk et al. 2022, "A-OKVQA: A Benchmark for Visual Question Answering using World Knowledge".
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ares.config.commands import command
from ares.data.captions import captions_of
from ares.data.checks import checked_root, halves, is_id, kind, problems_with, wrong_texts
from ares.data.scienceqa import read_conversion
from ares.storage.files import hash_of, read_json
from ares.types import SPLITS, AresError, Problem

RATIONALES = ("first", "all", "sample")


def read_aokvqa(
    root: Path | str | None,
    coco: Path | str | None = None,
    *,
    captions: Path | str | None = None,
    rationale: str = "first",
    seed: int = 0,
) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of train, val and test, in the files' order.

    From the official files (those of `root`; a split without one is empty) the pid is the `question_id`, the
    image is `<coco>/<split>2017/<image_id, 12 digits>.jpg`, `coco` being `<root>/coco` unless given, and what
    the test split withholds is None or empty. A folder with a `problems.json` is read as ScienceQA is.
    `solution` is the first of the rationales, all of them, or one drawn by `seed` and pid. `captions` as in
    `read_scienceqa`.

    Raises AresError where a file is missing or wrong, naming the file, the question and the field.
    """
    if rationale not in RATIONALES:
        raise AresError(f"data.rationale={rationale}: choose from {', '.join(RATIONALES)}.")
    folder = checked_root(
        root,
        "aokvqa_v1p0_train.json, or with problems.json and pid_splits.json",
        f"fetch the hub copy with `{command('prepare', data='aokvqa')}`",
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
    texts = captions_of({row["question_id"] for found in rows.values() for row in found}, root, captions)
    problems: dict[str, Problem] = {}
    splits: dict[str, list[str]] = {}
    for split, path in files.items():
        splits[split] = []
        for row in rows[split]:
            problem = _problem(row, split, coco, texts)
            if problem.pid in problems:
                raise AresError(f"{path}: question {problem.pid} occurs twice; keep one.")
            problems[problem.pid] = problem
            splits[split].append(problem.pid)
    return problems, splits


def _rows(path: Path) -> list[dict[str, Any]]:
    content = read_json(path)
    if not isinstance(content, list):
        raise AresError(f"{path} holds {kind(content)}; it must be a list of questions.")
    for number, row in enumerate(content, start=1):
        for clause in _wrong(row):
            name = row.get("question_id", "without question_id") if isinstance(row, dict) else ""
            raise AresError(f"{path}: question {number} ({name}), {clause}")
    return content


def _wrong(row: Any) -> Iterator[str]:
    if isinstance(row, dict):
        row = {**row, "answer": row.get("correct_choice_idx")}
    yield from problems_with(row, ("question_id", "image_id", "question", "choices"))
    for name in ("rationales", "direct_answers"):
        yield from wrong_texts(row, name)
    if not is_id(row["question_id"]):
        yield 'field "question_id" must be a non-empty text without a slash.'
    yield from halves(row, ("question_id",))
    if isinstance(row["image_id"], bool) or not isinstance(row["image_id"], int):
        yield 'field "image_id" must be COCO\'s number of the image.'


def _problem(row: Mapping[str, Any], split: str, coco: Path, captions: Mapping[str, str]) -> Problem:
    pid, answer = row["question_id"], row.get("correct_choice_idx")
    return Problem(
        pid=pid,
        question=row["question"],
        choices=tuple(row["choices"]),
        answer=None if answer is None else int(answer),
        hint="",
        caption=captions.get(pid, ""),
        lecture="",
        solution="",
        image=coco / f"{split}2017" / f"{row['image_id']:012}.jpg",
        split=split,
        subject="",
        topic="",
        category="",
        skill="",
        grade="",
        task="",
        rationales=tuple(row.get("rationales") or ()),
        direct_answers=tuple(row.get("direct_answers") or ()),
        difficult=bool(row.get("difficult_direct_answer")),
    )


def _with_solution(problem: Problem, rationale: str, seed: int) -> Problem:
    if not problem.rationales:  # the test split, or a conversion that kept only one
        return problem
    chosen = {
        "first": problem.rationales[0],
        "all": " ".join(problem.rationales),
        "sample": problem.rationales[int(hash_of([seed, problem.pid]), 16) % len(problem.rationales)],
    }
    return dataclasses.replace(problem, solution=chosen[rationale])
