"""Reads preferences: a prompt with a chosen and a rejected response, in five published shapes."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ares.data.checks import kind
from ares.data.instructions import (
    Read,
    Row,
    Turn,
    Wrong,
    bare,
    images_of,
    instruction,
    read_rows,
    spoken,
    text,
)
from ares.types import Problem

# VLFeedback rates each completion by these; what it is worth is their mean.
_ASPECTS = ("Helpfulness", "Visual Faithfulness", "Ethical Considerations")


def read_preferences(
    root: Path | str | None, captions: Path | str | None = None, *, val: float = 0.05, margin: float = 0.0
) -> Read:
    """One problem per pair, its solution the chosen response, with `rejected`; and the pids of each split.

    `root` is a .json, .jsonl or .parquet file. Its rows are ours and VL-RLHF's (`prompt`, `chosen`, `rejected`), LLaVA's
    (`conversations`, `output_1`, `output_2`, `preference`), RLHF-V's (`text`, or `question`, with `chosen` and `rejected`)
    or VLFeedback's (`prompt`, `completions` with ratings), each with `image` or `images`. Ties, and ratings that differ by
    no more than `margin`, are left out. `val`: the share of rows that is validated on. Raises AresError with file, row
    and field.
    """
    return read_rows(root, val, partial(_problems, margin=margin))


def _problems(path: Path, pid: str, split: str, row: Row, *, margin: float) -> list[Problem]:
    earlier: tuple[Turn, ...] = ()
    if "completions" in row:
        pair = _rated(row, margin)
    elif "preference" in row or "output_1" in row:
        earlier, pair = _compared(row)
    else:
        row = {**row, **_nested(row)}
        asked = "question" if "question" in row and "prompt" not in row else "prompt"
        pair = (text(row, asked), text(row, "chosen"), text(row, "rejected"))
    if pair is None:
        return []
    prompt, chosen, rejected = pair
    if chosen == rejected:
        raise Wrong("rejected", "is the same text as the chosen response; leave the row out")
    images = images_of(path, pid, row, [*(said for turn in earlier for said in turn), prompt])
    turns = tuple((bare(asked), bare(reply)) for asked, reply in earlier)
    return [instruction(pid, split, bare(prompt), chosen, images=images, turns=turns, rejected=rejected)]


def _nested(row: Row) -> Mapping[str, Any]:
    """RLHF-V's hub copy has question, chosen and rejected as JSON in `text`."""
    if "text" not in row:
        return {}
    try:
        found = json.loads(row["text"]) if isinstance(row["text"], str) else row["text"]
    except json.JSONDecodeError as error:
        raise Wrong("text", f"is not valid JSON ({error.msg})") from None
    if not isinstance(found, dict):
        raise Wrong("text", f"holds {kind(found)}; it must be an object with question, chosen and rejected")
    return found


def _compared(row: Row) -> tuple[tuple[Turn, ...], tuple[str, str, str] | None]:
    """LLaVA's: the turns before the last question, and (prompt, chosen, rejected); None for a tie."""
    messages = [said for _, said in spoken(row.get("conversations"), "conversations")]
    if len(messages) % 2 == 0:
        raise Wrong("conversations", "must end with the user, whom the two outputs answer")
    outputs = []
    for field in ("output_1", "output_2"):
        found = row.get(field)
        outputs.append(text(found, "value") if isinstance(found, dict) else text(row, field))
    preference = row.get("preference")
    if preference not in (0, 1, 2) or isinstance(preference, bool):
        raise Wrong("preference", f"is {preference!r}; make it 1 or 2, or 0 for a tie")
    turns = tuple(zip(messages[:-1:2], messages[1::2], strict=True))
    order = outputs if preference == 1 else outputs[::-1]
    return turns, None if preference == 0 else (messages[-1], order[0], order[1])


def _rated(row: Row, margin: float) -> tuple[str, str, str] | None:
    """VLFeedback's: (prompt, best, worst) of its completions by mean rating; None where these differ too little."""
    found = row["completions"]
    if isinstance(found, dict):  # `datasets` has a list of objects as an object of lists
        names, columns = list(found), [_unfolded(column) for column in found.values()]
        found = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(entry, dict) for entry in found):
        raise Wrong("completions", "must hold two responses or more, each with `response` and `annotations`")
    rated = sorted(((_rating(entry), text(entry, "response")) for entry in found), key=lambda both: -both[0])
    best, worst = rated[0], rated[-1]
    close = best[0] - worst[0] <= margin or best[1] == worst[1]
    return None if close else (text(row, "prompt"), best[1], worst[1])


def _unfolded(column: Any) -> Sequence[Any]:
    """Annotations as one object per completion."""
    if not isinstance(column, dict):
        return column
    count = min(map(len, column.values()), default=0)
    return [{name: values[number] for name, values in column.items()} for number in range(count)]


def _rating(entry: Mapping[str, Any]) -> float:
    annotations: Any = entry.get("annotations")
    try:
        ratings = [float(annotations[name]["Rating"]) for name in _ASPECTS]
    except (KeyError, TypeError, ValueError):
        raise Wrong("completions", f"needs annotations with a Rating for {', '.join(_ASPECTS)}") from None
    return sum(ratings) / len(ratings)
