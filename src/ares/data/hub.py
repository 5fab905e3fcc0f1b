"""Brings the hub's copies of ScienceQA and A-OKVQA (parquet with image bytes) into ScienceQA's published layout."""

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ares.data.checks import TEXT_FIELDS
from ares.store import write_json
from ares.types import SPLITS, AresError

_HUB_SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}
_COLUMNS = ("question", "choices", "image")


def fetch_hub(source: str, root: Path | str, *, progress: bool = True) -> None:
    """Writes `problems.json`, `pid_splits.json` and `images/<pid>/image.<png or jpg>` into `root`.

    `source` is a data set's hub id (`derek-thomas/ScienceQA`, `HuggingFaceM4/A-OKVQA`) or a folder of its
    parquet files. ScienceQA's copy has no problem ids: a problem is called `<split>-<row>`, rows counted from
    0. Killed, it writes only the images that are missing; the JSON files come last.

    Raises AresError where the data set cannot be read or is neither of the two.
    """
    from tqdm import tqdm

    root = Path(root)
    problems: dict[str, Any] = {}
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, rows in _splits(source).items():
        for number, row in enumerate(tqdm(rows, desc=f"{source} {split}", unit="row", disable=not progress)):
            if not row.keys() >= set(_COLUMNS):
                raise AresError(
                    f"{source} is neither ScienceQA nor A-OKVQA: it lacks the columns {', '.join(_COLUMNS)}."
                )
            pid = row.get("question_id") or f"{split}-{number}"
            problem = _aokvqa(row) if "question_id" in row else _scienceqa(row)
            problems[pid] = {
                **problem,
                "image": _write_image(root / "images" / pid, row["image"]),
                "split": split,
            }
            splits[split].append(pid)
    write_json(root / "pid_splits.json", splits)
    write_json(root / "problems.json", problems)


def _splits(source: str) -> dict[str, Iterator[Mapping[str, Any]]]:
    """The rows of each split, images as their bytes."""
    import datasets

    try:
        found: Any = _local(Path(source)) or datasets.load_dataset(source)
    except Exception as error:  # the library raises whatever the network, the disk or the format gave it
        raise AresError(
            f"{source} cannot be read ({str(error).splitlines()[0]}); check the name and the connection, or download "
            "its parquet files and name their folder with data.hub=<folder>."
        ) from error
    return {_HUB_SPLITS[name]: _undecoded(found[name]) for name in found if name in _HUB_SPLITS}


def _local(folder: Path) -> dict[str, Any]:
    """The parquet files of a folder, read as they are; a download is kept in the hub's cache, which resumes it."""
    import datasets

    files: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.parquet")) if folder.is_dir() else ():
        files.setdefault(path.name.removesuffix(".parquet").split("-")[0], []).append(str(path))
    # Split by split: a column that one of them withholds has another type there.
    return {
        split: datasets.load_dataset("parquet", data_files=paths, split="train", streaming=True)
        for split, paths in files.items()
    }


def _undecoded(rows: Any) -> Any:
    import datasets

    if isinstance((rows.features or {}).get("image"), datasets.Image):
        return rows.cast_column("image", datasets.Image(decode=False))
    return rows


def _scienceqa(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: row.get(name) or "" for name in TEXT_FIELDS},
        "choices": list(row["choices"]),
        "answer": row.get("answer"),
    }


def _aokvqa(row: Mapping[str, Any]) -> dict[str, Any]:
    direct = row.get("direct_answers") or []
    return {
        "question": row["question"],
        "choices": list(row["choices"]),
        "answer": row.get("correct_choice_idx"),
        "rationales": list(row.get("rationales") or []),
        # The hub's copy has the list as its Python text.
        "direct_answers": list(ast.literal_eval(direct) if isinstance(direct, str) else direct),
        "difficult": bool(row.get("difficult_direct_answer")),
    }


def _write_image(folder: Path, image: Mapping[str, Any] | None) -> str | None:
    """Writes an image's bytes, unless they are there, and returns the file's name; None without an image."""
    if not image or not image.get("bytes"):
        return None
    data: bytes = image["bytes"]
    path = folder / ("image.jpg" if data.startswith(b"\xff\xd8") else "image.png")
    if not path.exists() or path.stat().st_size != len(data):
        folder.mkdir(parents=True, exist_ok=True)
        # Renamed when whole, but not synced one by one: ten thousand syncs take minutes.
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)
    return path.name
