"""The repaired rationale from a Teacher's reply."""

import json
import re

from ares.teachers.parsing.entries import json_values
from ares.teachers.parsing.errors import FeedbackError
from ares.teachers.parsing.reasoning import without_reasoning
from ares.teachers.parsing.refusals import is_refusal

_MARKUP = r"[\"'“”*_`#]"
# The key with a colon, as a tag, or as a heading on a line of its own; emphasis and quotes around it are not part of the value.
_FINAL_KEY = re.compile(
    rf"{_MARKUP}*final[_ ]rationale{_MARKUP}*\s*[:=][*_`]*\s*|<final[_ ]rationale>\s*"
    r"|^[ \t]*(?:#+|\*\*|__) *final[_ ]rationale[ *_]*\n\s*",
    re.IGNORECASE | re.MULTILINE,
)
# Before a key in running text: "Changes to the final rationale: ..." is a remark about it.
_RUNNING_TEXT = re.compile(r"[\w'’)] *$")
_SURROGATE = re.compile("[\ud800-\udfff]")  # a JSON escape can leave one; UTF-8 cannot encode it
_ECHO = re.compile(
    r"original[_ ]rationale|final_rationale|corrected rationales? (inside|within)|your task (involves|is)\b",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "“": "”"}
# What follows the closing quote of a value: another key, the end of an object, of the line or of the reply.
_AFTER_QUOTE = r"(?=\s*,?\s*(?:[\"'“][^\"'“”\n]{1,40}[\"'”]\s*:|[}\])`]|\n|$))"
_BULLET = r"(?:[-*•]|\d{1,2}[.)])\s"
# Where a value without braces or quotes ends: at the end of an object or tag, at another key, or at a paragraph
# that is not a list.
_END = re.compile(
    rf"\n\s*}}|}}\s*\Z|</\w+>|\n```|\n\s*(?:[\"'“][^\"'“”\n]{{1,40}}[\"'”]|\w+_\w+)\s*:|\n\s*(?:[-*_] ?){{3,}}\n"
    r"|\n[ \t*_#-]*(?:(?:list of |summary of |the )?(?:changes?|corrections?|edits?|revisions?|modifications?)\b"
    r"|notes?\b|remarks?\b|comments?\b|explanation\b|reason(?:ing)?\b|justification\b|confidence\b|feedback\b|original\b"
    rf"|answer\b)[^\n:.]{{0,40}}:|(?<!:)\n[ \t]*\n(?!\s*{_BULLET})",
    re.IGNORECASE,
)


def parse_correction(text: str, echo: re.Pattern[str] | None = None) -> str:
    """The repaired rationale, on one line, from a reply `final_rationale: {...}` or JSON with this key.

    If there are several, the last one counts, but a key inside a sentence is a remark. Raises FeedbackError if the
    rationale is missing, empty or cut off, for a refusal, and for a reply that repeats the prompt (recognized by
    `echo`, too) instead of answering it.
    """
    text = without_reasoning(text).replace("\r\n", "\n").replace("\r", "\n")
    value = _json_final(text)
    if value is None:
        value = _without_bullets(_value(_after_key(text)))
    value = " ".join(value.split())
    if _SURROGATE.search(value):
        raise FeedbackError("the final rationale holds half a character")
    if not re.search(r"\w", value):
        raise FeedbackError("the final rationale is empty")
    if _ECHO.search(value) or (echo and echo.search(value)):
        raise FeedbackError("the reply repeats the prompt instead of answering it")
    if is_refusal(value):
        raise FeedbackError("the Teacher refused")
    return value


def _json_final(text: str) -> str | None:
    found = json_values(text, "final_rationale")
    if found and not isinstance(found[-1], str):
        raise FeedbackError("the final rationale is not a string")
    return found[-1] if found else None


def _after_key(text: str) -> str:
    """What follows the key that counts: the last in braces outside running text, else the last of the next best."""
    keys = list(_FINAL_KEY.finditer(text))
    if not keys:
        raise FeedbackError("no final rationale in the reply")

    def rank(key: re.Match[str]) -> tuple[bool, bool, int]:
        own = not _RUNNING_TEXT.search(text[max(0, key.start() - 40) : key.start()])
        return own, text.startswith("{", key.end()), key.start()

    return text[max(keys, key=rank).end() :]


def _value(text: str) -> str:
    """The value at the start of `text`: in braces, in quotes, in a code block, or plain."""
    if text.startswith("{"):
        return _braced(text)
    if fence := re.match(r"```\w*\n", text):
        return text[fence.end() :].split("```")[0]
    if (quote := text[:1]) in _QUOTES and (found := _quoted(text, quote)) is not None:
        return found
    plain = _END.split(text)[0].strip(" ',\n\t")
    if plain.count("**") % 2:  # the emphasis began before the key
        plain = plain.removesuffix("**")
    if plain.startswith('"') and not plain.endswith('"'):
        raise FeedbackError("the final rationale is cut off")
    return _unwrapped(plain.strip(" \"',"))


def _braced(text: str) -> str:
    """The text up to the matching brace, without quotes around all of it."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            inside = text[1:at].strip()
            if inside.startswith("{") and inside.endswith("}"):
                return _braced(inside)
            return _unquoted(_unwrapped(inside))
    raise FeedbackError("the final rationale is cut off")


def _unquoted(text: str) -> str:
    """`text`, or the texts of which it is a list in quotes."""
    try:
        texts = json.loads(f"[{text.removesuffix(',')}]", strict=False)
    except (ValueError, RecursionError):
        texts = []
    if texts and all(isinstance(part, str) for part in texts):
        return "\n".join(texts)
    found = _quoted(text, text[:1]) if text[:1] in _QUOTES else None
    if found is None or len(found) + 2 < len(text.rstrip(" ,")):
        return text
    # "Stop," he said. "Go." begins and ends with quotes that are not around all of it.
    closes = re.match(rf"[^{text[0]}]*[^\s({text[0]}]{text[0]}\W", found)
    return text if closes else found


def _quoted(text: str, quote: str) -> str | None:
    """The text in the quotes that `text` begins with, None if they are not closed."""
    closing = re.compile(rf"(?<!\\){_QUOTES[quote]}{_AFTER_QUOTE}").search(text, 1)
    if closing is None:
        return None
    inside = text[1 : closing.start()]
    try:
        return str(json.loads(f'"{inside}"', strict=False))
    except ValueError:
        return inside


def _unwrapped(text: str) -> str:
    """`text` without the emphasis around all of it."""
    match = re.fullmatch(r"(\*\*|__|\*|`)(?!\s)(.+?)\1", text, re.DOTALL)
    return match[2] if match and match[1] not in match[2] else text


def _without_bullets(text: str) -> str:
    lines = text.replace("\\n", "\n").split("\n")
    return "\n".join(re.sub(r"^\s*[-*•]\s+", "", line) for line in lines)
