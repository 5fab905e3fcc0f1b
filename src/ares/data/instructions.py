"""Instructions with a written response as problems without choices: what readers of chats and preferences share."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ares.data.checks import HALF, has_half_character, is_id, kind
from ares.data.holdout import is_held_out
from ares.data.row_files import Torn, present, rows_of
from ares.ranks import is_first
from ares.storage.files import atomic_path
from ares.types import SPLITS, AresError, Problem

SUFFIXES = (".jsonl", ".json", ".parquet")
IMAGE = "<image>"  # marks the place of an image in LLaVA's texts
_SHOWN = 10  # mistakes reported at once

Turn = tuple[str, str]  # what the user writes, and the reply
Row = Mapping[str, Any]
Read = tuple[dict[str, Problem], dict[str, list[str]]]


class Wrong(Exception):
    """What is wrong with a field of a row, as a clause."""

    def __init__(self, field: str, clause: str) -> None:
        super().__init__(f'field "{field}" {clause}.')


def read_rows(
    root: Path | str | None, val: float, problems_of: Callable[[Path, str, str, Row], list[Problem]]
) -> Read:
    """The problems of a file by pid, and the pids of each split.

    `problems_of(path, pid, split, row)` makes those of a row, none of a tie, and raises `Wrong`; a row is kept or refused
    as a whole. A row's split is its field `split`, or train and, for a share `val` of the rows by their ids, val. Prints
    how many rows are ties. Raises AresError that lists the first mistakes with file, row and field.
    """
    path = _file(root)
    problems: dict[str, Problem] = {}
    ids, mistakes, ties = set[str](), [], 0
    for number, value in rows_of(path):
        try:
            row = _object(present(value))
            own = str(row.get("id", row.get("idx", ""))).replace("/", "-")
            pid = own if is_id(own) and own not in ids else f"row-{number}"
            ids.add(pid)
            split = row.get("split", "val" if is_held_out(pid, val) else "train")
            if split not in SPLITS:
                raise Wrong("split", f"is {split!r}; make it train, val or test")
            made = problems_of(path, pid, split, row)
            ties += not made
            problems |= {problem.pid: problem for problem in made}
        except Wrong as error:
            mistakes.append(f"{path}: row {number}, {error}")
    if mistakes:
        more = [f"{path}: {len(mistakes) - _SHOWN} more mistakes."] if len(mistakes) > _SHOWN else []
        raise AresError("\n".join(mistakes[:_SHOWN] + more))
    if not problems:
        rows = f"{ties} ties and no other row" if ties else "nothing to train on"
        raise AresError(f"{path} holds {rows}; docs/preferences.md shows what a row looks like.")
    if ties and is_first():
        _report(path, ties)
    return problems, {split: [p.pid for p in problems.values() if p.split == split] for split in SPLITS}


@cache
def _report(path: Path, ties: int) -> None:
    """Prints how many rows are left out, once: every step reads the file."""
    print(f"{path}: {ties} {'row is a tie' if ties == 1 else 'rows are ties'} and left out", flush=True)


def _file(root: Path | str | None) -> Path:
    path = Path(root) if root else None
    if path is None or not path.is_file() or path.suffix not in SUFFIXES:
        raise AresError(
            f"data.root={root} is not a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file; docs/preferences.md shows what a "
            "row looks like."
        )
    return path


def _object(value: Any) -> Row:
    if isinstance(value, Torn):
        raise Wrong("row", f"cannot be read: {str(value).rstrip('.')}")
    if not isinstance(value, dict):
        raise Wrong("row", f"is {kind(value)}; make it an object")
    return value


def text(row: Row, field: str) -> str:
    """A field's text without white space around it. Raises Wrong where it is missing, empty or no text."""
    found = row.get(field)
    if not isinstance(found, str):
        raise Wrong(field, "is missing; add it" if found is None else f"is {kind(found)}; make it text")
    if has_half_character(found):
        raise Wrong(field, HALF)
    if not found.strip():
        raise Wrong(field, "is empty; write the text, or leave the row out")
    return found.strip()


def spoken(turns: Any, field: str) -> list[tuple[bool, str]]:
    """A conversation's messages as (whether the user speaks, text).

    `from` and `value` are LLaVA's names (human, gpt) and VL-RLHF's (user, assistant); `role` and `content` work, too.
    Raises Wrong where users and replies do not alternate, the user first.
    """
    users, replies = ("human", "user"), ("gpt", "assistant")
    if not isinstance(turns, list) or not turns:
        raise Wrong(field, "must be a list of messages")
    found = []
    for number, turn in enumerate(turns):
        turn = turn if isinstance(turn, dict) else {}
        who = turn.get("from", turn.get("role"))
        if (
            who != (users if number % 2 == 0 else replies)[0]
            and who != (users if number % 2 == 0 else replies)[1]
        ):
            expected = " or ".join(users if number % 2 == 0 else replies)
            raise Wrong(field, f"has a message {number + 1} from {who!r}, which must be from {expected}")
        try:
            found.append((number % 2 == 0, text(turn, "value" if "value" in turn else "content")))
        except Wrong as error:
            raise Wrong(field, f"has a message {number + 1} whose {str(error).rstrip('.')}") from None
    return found


def images_of(path: Path, pid: str, row: Row, texts: Sequence[str] = ()) -> tuple[Path, ...]:
    """The images of a row: paths relative to the file's folder, or the bytes of a parquet file, written next to it.

    Raises Wrong where a file is missing, or `texts` have more places for images than there are images.
    """
    field = "images" if "images" in row else "image"
    found = row.get(field) or []
    images = tuple(
        _image(path, field, f"{pid}-{number}", image)
        for number, image in enumerate(found if isinstance(found, list) else [found])
    )
    places = sum(text.count(IMAGE) for text in texts)
    if places > len(images):
        raise Wrong(field, f"has {len(images)} images, and the texts have {places} places for them")
    return images


def _image(path: Path, field: str, name: str, image: Any) -> Path:
    if isinstance(image, dict) and isinstance(image.get("bytes"), bytes):
        folder = path.with_name(f"{path.stem}-images")
        written = folder / f"{name}.png"  # whatever it is: images are opened by their contents
        if not written.exists():
            folder.mkdir(exist_ok=True)
            with atomic_path(written) as temporary:
                temporary.write_bytes(image["bytes"])
        return written
    image = image.get("path") if isinstance(image, dict) else image
    if not isinstance(image, str) or "\0" in image:
        raise Wrong(field, f"is {kind(image)}; make it a file name, or a list of them")
    if not (path.parent / image).is_file():
        raise Wrong(field, f"is {image}, which is not in {path.parent}; put it there")
    return path.parent / image


def bare(message: str) -> str:
    """A text without the marks of its images, which are shown before it."""
    return message.replace(IMAGE, " ").strip()


def instruction(
    pid: str,
    split: str,
    prompt: str,
    response: str,
    *,
    images: tuple[Path, ...],
    turns: tuple[Turn, ...] = (),
    rejected: str = "",
) -> Problem:
    """An instruction as a problem: `response` is its solution, `turns` are the turns before it."""
    names = ("hint", "caption", "lecture", "subject", "topic", "category", "skill", "grade", "task")
    empty: dict[str, Any] = dict.fromkeys(names, "")
    return Problem(
        pid=pid,
        question=prompt,
        choices=(),
        answer=None,
        solution=response,
        image=None,
        images=images,
        split=split,
        rejected=rejected,
        turns=turns,
        **empty,
    )
