"""The answer of a reply without the reasoning that some models write before it."""

import re

_MARK = re.compile(
    r"[<\[◁](?P<closing>/?)(?:think(?:ing)?|thoughts?|reasoning|reflection|analysis|scratchpad)[>\]▷]",
    re.IGNORECASE,
)


def without_reasoning(text: str) -> str:
    """Returns `text` without its `<think>` blocks.

    A block that is never closed was cut off: nothing after its tag is an answer. A chat template may have written
    the opening tag, so that the reply starts inside a block.
    """
    kept: list[str] = []
    start, depth = 0, 0
    for mark in _MARK.finditer(text):
        if mark["closing"]:
            if depth == 0:
                kept.clear()
            depth = max(depth - 1, 0)
        else:
            if depth == 0:
                kept.append(text[start : mark.start()])
            depth += 1
        start = mark.end()
    return "".join(kept) + (text[start:] if depth == 0 else "")
