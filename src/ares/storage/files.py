"""Files that are either complete or absent.

Every write goes to a temporary file next to its target, is synced, and replaces the target in one rename, so that a
killed process leaves no half-written artefact.
"""

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ares.storage.failures import disk_errors
from ares.types import AresError

_SAMPLES, _BLOCK = 32, 2**16  # of a large file: blocks, and bytes in each


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yields a path next to `path` to write a file to; it replaces `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yields an empty folder next to `path`; it replaces the folder `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove(path: Path) -> None:
    """Removes a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files and folders that killed processes left in a folder, which nobody else may be writing."""
    for path in list(folder.rglob(".*.tmp")):
        remove(path)


def sha256_file(path: Path | str) -> str:
    """The sha256 (hex) of a file's bytes, which are not held in memory at once."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_sha256(path: Path | str) -> str:
    """The sha256 (hex) of a file's size and of 32 blocks of 64 KiB at even distances.

    Gigabytes of weights are compared in milliseconds: training changes all of them, in every block.
    """
    size = Path(path).stat().st_size
    found = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for block in range(_SAMPLES):
            file.seek(block * size // _SAMPLES)
            found.update(file.read(_BLOCK))
    return found.hexdigest()


def sha256_path(path: Path | str) -> str:
    """The sha256 (hex) of a file, or of the names and contents of a folder's files, sorted by name.

    Hidden files (temporary files, locks) are ignored. Raises FileNotFoundError if the path does not exist.
    """
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    if not path.is_dir():
        raise FileNotFoundError(path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    return hash_of([[p.relative_to(path).as_posix(), sha256_file(p)] for p in files])


def hash_of(value: Any) -> str:
    """The sha256 (hex) of a value's canonical JSON (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Writes a value as indented JSON, atomically. Raises AresError for NaN and infinity, which JSON does not have."""
    text = _dumped(path, value, indent=2)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Reads a JSON file. Raises AresError with file and line if it is invalid, has NaN or infinity, or a key twice."""
    return parse_json(_text(path), str(path))


def read_object(path: Path | str) -> dict[str, Any]:
    """Reads a JSON file that holds an object. Raises AresError where it is invalid or holds something else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise AresError(
            f"{path} does not hold a JSON object; it is damaged: remove it and run the command again."
        )
    return value


def parse_json(text: str, place: str) -> Any:
    """The value of strict JSON. Raises AresError with its `place` and the line."""

    def refuse(constant: str) -> None:
        raise AresError(f"{place} holds {constant}, which is no JSON number; repair or remove it.")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise AresError(f"{place} has the key {twice!r} twice in one object; keep one.")
        return found

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise AresError(
            f"{place} is not valid JSON (line {error.lineno}: {error.msg}); repair or remove it."
        ) from None
    except RecursionError:
        raise AresError(f"{place} is nested too deeply to be read; repair or remove it.") from None
    except ValueError:  # more digits than Python converts
        raise AresError(f"{place} holds a number with too many digits; repair or remove it.") from None


def write_jsonl(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object per line, atomically. Raises AresError for NaN and infinity."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(_dumped(path, row) + "\n")


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """Reads one JSON object per line. Raises AresError with file and line where one is invalid."""
    lines = enumerate(_text(path).split("\n"), start=1)
    rows = [parse_json(line, f"{path}: line {number}") for number, line in lines if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise AresError(f"{path} must have one JSON object per line; it is damaged: repair or remove it.")
    return rows


def _text(path: Path | str) -> str:
    try:
        with disk_errors():
            return Path(path).read_text(encoding="utf-8-sig")  # Windows writes a byte order mark
    except UnicodeDecodeError as error:
        raise AresError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8.") from None


def _dumped(path: Path | str, value: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        if "Out of range float" not in str(error):
            raise
        raise AresError(f"{path} cannot be written: a number in it is NaN or infinite.") from None


def read_csv(path: Path | str) -> list[dict[str, str]]:
    """The complete rows of a CSV file with a header (a kill may leave half a row at its end); none without a file."""
    if not Path(path).exists():
        return []
    text = Path(path).read_text(encoding="utf-8")
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
