"""Questions from the files people have: VLMEvalKit's TSV, the hub's parquet, the originals' JSON and JSONL."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ares.evaluation.benchmarks.llava_files import original_files, read_originals
from ares.evaluation.benchmarks.pictures import Pictures, is_picture
from ares.storage.files import read_json, read_jsonl
from ares.types import AresError

SUFFIXES = (".tsv", ".parquet", ".json", ".jsonl")

# A row: its place ("<file>: row 3"), and its columns as they are.
Row = tuple[str, dict[str, Any]]


def files_of(path: Path) -> list[Path]:
    """The files of a benchmark: the path itself, or all such files of one kind in a folder, by name.

    Raises AresError where there is none.
    """
    if originals := original_files(path):
        return originals
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES)
    kinds = {file.suffix for file in found}
    if not found or not kinds <= set(SUFFIXES) or len(kinds) > 1:
        raise AresError(
            f"benchmark.file={path} is not a file (or a folder of files of one kind) that ends in {', '.join(SUFFIXES)}; "
            "docs/benchmarks.md says which to get."
        )
    return found


def read_rows(path: Path) -> Iterator[Row]:
    """All rows of a benchmark's files, in order; the name of its file, without suffix, is the column `file`.

    LLaVA-Bench's own files are joined. Raises AresError for a file that cannot be read.
    """
    if original_files(path):
        yield from read_originals(path)
        return
    for file in files_of(path):
        for number, row in enumerate(_READERS[file.suffix](file), start=1):
            if not isinstance(row, dict):
                raise AresError(f"{file}: row {number} is no object; give the file as it is published.")
            yield f"{file}: row {number}", {**row, "file": file.stem}


def columns(row: Mapping[str, Any]) -> dict[str, str]:
    """The columns of a row that are no pictures, as texts; those of an inner object become columns, too."""
    found: dict[str, str] = {}
    for name, value in row.items():
        if isinstance(value, dict) and not is_picture(name, value):
            found = {**columns(value), **found}
        elif not is_picture(name, value):
            found[str(name)] = _text(value)
    return found


def pictures_of(row: Mapping[str, Any], place: str, pictures: Pictures) -> tuple[Path, ...]:
    """The paths of a row's pictures, in the order of their columns."""
    named = sorted((name for name in row if is_picture(name, row[name])), key=lambda name: (len(name), name))
    if "decoded_image" in named:  # MathVista's hub copy: `image` is the name of the same picture
        named = ["decoded_image"]
    if not named and row.get("image_path"):
        named = ["image_path"]
    return tuple(path for name in named for path in pictures.paths(row[name], place))


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _tsv(path: Path) -> Iterator[Any]:
    csv.field_size_limit(sys.maxsize)  # a cell holds a picture
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file, delimiter="\t", restval="")
    except (csv.Error, UnicodeDecodeError) as error:
        raise AresError(
            f"{path} is no table in UTF-8 with tabs between its columns ({error}); fetch it again."
        ) from None


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    from ares.storage.tables import readable

    with readable(path):
        for batch in pq.ParquetFile(path).iter_batches(64):
            yield from batch.to_pylist()


def _json(path: Path) -> Iterator[Any]:
    content = read_json(path)
    if isinstance(content, dict):  # question ids to questions
        return iter([{"id": key, **row} if isinstance(row, dict) else row for key, row in content.items()])
    return iter(content if isinstance(content, list) else [content])


_READERS = {".tsv": _tsv, ".parquet": _parquet, ".json": _json, ".jsonl": lambda path: iter(read_jsonl(path))}
