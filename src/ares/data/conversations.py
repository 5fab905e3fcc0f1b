"""Reads conversations about images: LLaVA's JSON (human, gpt) and VL-RLHF's (user, assistant)."""

from pathlib import Path

from ares.data.instructions import Read, Row, Wrong, bare, images_of, instruction, read_rows, spoken
from ares.types import Problem


def read_conversations(
    root: Path | str | None, captions: Path | str | None = None, *, val: float = 0.02
) -> Read:
    """Each reply of a conversation as a problem, and the pids of each split.

    `root` is a .json, .jsonl or .parquet file whose rows have `conversations` (or `messages`) and, optionally, `image` or
    `images`, `id` and `split`. A reply is the solution of a problem whose prompt is all that precedes it, so that only
    replies are trained on; problem `<id>-<n>` is reply n. `val`: the share of conversations that is validated on.
    Raises AresError with file, row and field.
    """
    return read_rows(root, val, _problems)


def _problems(path: Path, pid: str, split: str, row: Row) -> list[Problem]:
    field = "messages" if "messages" in row else "conversations"
    messages = spoken(row.get(field), field)
    if len(messages) % 2:
        raise Wrong(field, "ends with the user; add the reply, or leave it out")
    images = images_of(path, pid, row, [text for _, text in messages])
    texts = [bare(text) for _, text in messages]
    turns = tuple(zip(texts[::2], texts[1::2], strict=True))
    return [
        instruction(f"{pid}-{number}", split, *turn, images=images, turns=turns[: number - 1])
        for number, turn in enumerate(turns, start=1)
    ]
