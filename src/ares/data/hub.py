"""Converts the hub's copies of ScienceQA and A-OKVQA (parquet with image bytes) to ScienceQA's published layout."""

import ast
import os
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from ares.data.checks import TEXT_FIELDS, is_id
from ares.data.rows import Row, parse_row
from ares.storage.files import write_json
from ares.types import SPLITS, AresError

_HUB_SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}
_BATCH = 64  # rows read at a time
_COLUMNS = ("question", "choices", "image")


def fetch_hub(source: str, root: Path | str) -> None:
    """Writes `problems.json`, `pid_splits.json` and `images/<pid>/image.<png or jpg>` into `root`.

    `source` is a data set's hub id (`derek-thomas/ScienceQA`, `HuggingFaceM4/A-OKVQA`) or a folder of its
    parquet files. ScienceQA's copy has no problem ids: a problem is called `<split>-<row>`, rows counted from
    0. A second call after a kill writes only the missing images; the JSON files come last.

    Raises AresError if the data set cannot be read, is neither of the two, or has a wrong row or no known split.
    """
    from ares.console import tqdm

    root = Path(root)
    problems: dict[str, Any] = {}
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, row in tqdm(_rows(source), desc=source, unit="row"):
        number = len(splits[split])
        if not row.keys() >= set(_COLUMNS):
            raise AresError(
                f"{source} is neither ScienceQA nor A-OKVQA: it lacks the columns {', '.join(_COLUMNS)}."
            )
        pid = row.get("question_id", f"{split}-{number}")
        problem = _aokvqa(row) if "question_id" in row else _scienceqa(row)
        for clause in _wrong(pid, problem, problems):
            raise AresError(f"{source}: row {number} of {split}, {clause}")
        image = _write_image(root / "images" / pid, row["image"])
        problems[pid] = {**problem, "image": image, "split": split}
        splits[split].append(pid)
    if not problems:
        raise AresError(
            f"{source} has no rows in a split called {', '.join(_HUB_SPLITS)}; rename its parquet files "
            "(train-0.parquet, ...), or choose another data set: data.hub=<hub id or folder>."
        )
    write_json(root / "pid_splits.json", splits)
    write_json(root / "problems.json", problems)


def _rows(source: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with its split, images as their bytes; a download is kept in the hub's cache, which resumes it."""
    import pyarrow.parquet as pq
    from huggingface_hub import snapshot_download

    folder = Path(source)
    try:
        if not folder.is_dir():
            folder = Path(snapshot_download(source, repo_type="dataset", allow_patterns="*.parquet"))
        for path in sorted(folder.rglob("*.parquet")):
            if split := _HUB_SPLITS.get(path.stem.split("-")[0]):
                for batch in pq.ParquetFile(path).iter_batches(_BATCH):
                    yield from ((split, row) for row in batch.to_pylist())
    except Exception as error:  # the libraries raise whatever the network, the disk or the format raised
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise AresError(
            f"{source} cannot be read ({reason}); check the name and the connection, or download its parquet files and "
            "give their folder with data.hub=<folder>."
        ) from error


def _scienceqa(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: row.get(name) or "" for name in TEXT_FIELDS},
        "choices": row["choices"],
        "answer": row.get("answer"),
    }


def _aokvqa(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "question": row["question"],
        "choices": row["choices"],
        "answer": row.get("correct_choice_idx"),
        "rationales": row.get("rationales") or [],
        "direct_answers": _direct_answers(row.get("direct_answers")),
        "difficult": bool(row.get("difficult_direct_answer")),
    }


def _direct_answers(found: Any) -> Any:
    if isinstance(found, str):  # the hub's copy has the list as its Python text
        try:
            return list(ast.literal_eval(found))
        except (SyntaxError, TypeError, ValueError):
            return found
    return found or []


def _wrong(pid: Any, problem: Mapping[str, Any], others: Container[str]) -> list[str]:
    wrong_id = 'field "question_id" is {!r}; make it a text without a slash that no other question has.'
    clauses = [] if is_id(pid) and pid not in others else [wrong_id.format(pid)]
    return clauses + parse_row(Row, problem)[1]


def _write_image(folder: Path, image: Mapping[str, Any] | bytes | None) -> str | None:
    """Writes an image's bytes, unless they are there, and returns the file's name; None without an image.

    An image without bytes still gets a name, so that it is reported as missing.
    """
    if image is None or image == {"bytes": None, "path": None}:
        return None
    data = image if isinstance(image, bytes) else image.get("bytes")
    if not data:
        return "image.png"
    path = folder / ("image.jpg" if data.startswith(b"\xff\xd8") else "image.png")
    if not path.exists() or path.stat().st_size != len(data):
        folder.mkdir(parents=True, exist_ok=True)
        # Renamed when complete, but not synced one by one: ten thousand syncs take minutes.
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)
    return path.name
