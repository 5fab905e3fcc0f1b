"""What the operating system refused, in one sentence: a full disk, a missing permission, a folder in a file's place."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ares.types import AresError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMEDIES = {
    **dict.fromkeys(_FULL, "free some space and run the same command again: finished steps are kept"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "give this user the permission, or set paths.runs to a folder that can be written",
    ),
    errno.ENOENT: "correct the path, or write the file again",
    errno.EISDIR: "a file belongs there: remove the folder, or correct the path",
    errno.ENOTDIR: "a folder belongs there: remove the file, or correct the path",
    errno.EEXIST: "remove what is there, or correct the path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "its symbolic links lead in a circle: correct them",
    errno.EIO: "the disk or network file system failed: check it, then run the same command again",
    errno.EMFILE: "raise the limit of open files (ulimit -n) and run the same command again",
}
# Libraries in other languages give the operating system's words or number only.
_WORDS = (
    (re.compile(r"os error (\d+)|\[errno (\d+)\]", re.IGNORECASE), None),
    (
        re.compile(r"no space left|disk is full|file write failed|unexpected pos \d+|File too large|quota exceeded", re.IGNORECASE),
        errno.ENOSPC,
    ),
    (re.compile(r"read-?only (?:database|file system)", re.IGNORECASE), errno.EROFS),
    (re.compile(r"unable to open database file|permission denied", re.IGNORECASE), errno.EACCES),
    (re.compile(r"disk I/O error|input/output error", re.IGNORECASE), errno.EIO),
    (re.compile(r"symlink loop", re.IGNORECASE), errno.ELOOP),
)  # fmt: skip


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turns errors of the operating system about files into an AresError; others pass as they are."""
    try:
        yield
    except AresError:
        raise
    except Exception as error:
        if sentence := disk_failure(error):
            raise AresError(sentence) from error
        raise


@contextmanager
def expected(
    path: os.PathLike[str] | str, remedy: str = "remove it and run the command again"
) -> Iterator[None]:
    """Turns what a file of other contents than expected leads to into an AresError: missing keys, values of another kind."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {_short(error)}"
        raise AresError(f"{path} does not hold what ares writes there ({reason}); {remedy}.") from error


def disk_failure(error: BaseException) -> str | None:
    """A sentence about an error of the operating system, with the path and what to do; None for another error."""
    number, path = _number(error), None
    if isinstance(error, OSError) and error.filename is not None:
        path = os.fsdecode(error.filename) if not isinstance(error.filename, int) else None
    if number in _REMEDIES:
        what = "there is no space left on the device" if number in _FULL else os.strerror(number).lower()
        return f"{f'{path}: ' if path else ''}{what}{'' if path else f' ({_short(error)})'}; {_REMEDIES[number]}."
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return disk_failure(cause) if cause else None


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    for pattern, number in _WORDS:
        if match := pattern.search(str(error)):
            return number or int(match[1] or match[2])
    return None


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
