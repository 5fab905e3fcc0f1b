"""The repaired rationale from a Teacher's reply."""

import re

from ares.teachers.parsing.entries import json_values
from ares.teachers.parsing.errors import FeedbackError

_FINAL_KEY = re.compile(r"[\"'*]*final[_ ]rationale[\"'*]*\s*:\s*", re.IGNORECASE)
_REFUSAL = re.compile(
    r"(solution:\s*)?"
    r"(i('m| am) (sorry|unable|not (able|going|comfortable)|afraid)|(my )?(sorry|apologies)\b|i (must )?apologi[sz]e"
    r"|i (cannot|can't|can not|could not|couldn't|will not|won't|would not|wouldn't|must decline|decline|refuse)\b"
    r"|i (do not|don't|did not|didn't) (see|have)\b|unfortunately,? (i|there|the image)"
    r"|as an? (ai|(large )?language model|assistant)\b|there is no (image|rationale|text)|(n/?a|none|null)\W*$)",
    re.IGNORECASE,
)
_SURROGATE = re.compile("[\ud800-\udfff]")  # a JSON escape can leave one; UTF-8 cannot encode it
_ECHO = re.compile(
    r"original[_ ]rationale|final_rationale|corrected rationales? (inside|within)|your task (involves|is)\b",
    re.IGNORECASE,
)


def parse_correction(text: str, echo: re.Pattern[str] | None = None) -> str:
    """The repaired rationale, on one line, from a reply `final_rationale: {...}` or JSON with this key.

    If there are several, the last one counts. Raises FeedbackError if it is missing, empty or cut off, for a
    refusal, and for a reply that repeats the prompt (recognized by `echo`, too) instead of answering it.
    """
    value = _json_final(text)
    if value is None:
        keys = list(_FINAL_KEY.finditer(text))
        if not keys:
            raise FeedbackError("no final rationale in the reply")
        value = _without_bullets(_braced(text[keys[-1].end() :]))
    value = " ".join(value.split())
    if _SURROGATE.search(value):
        raise FeedbackError("the final rationale holds half a character")
    if not re.search(r"\w", value):
        raise FeedbackError("the final rationale is empty")
    if _ECHO.search(value) or (echo and echo.search(value)):
        raise FeedbackError("the reply repeats the prompt instead of answering it")
    if _REFUSAL.match(value.replace("’", "'")):
        raise FeedbackError("the Teacher refused")
    return value


def _json_final(text: str) -> str | None:
    found = json_values(text, "final_rationale")
    if found and not isinstance(found[-1], str):
        raise FeedbackError("the final rationale is not a string")
    return found[-1] if found else None


def _braced(text: str) -> str:
    # `{...}` up to the matching brace; without braces everything up to the closing brace of the reply.
    if not text.startswith("{"):
        plain = re.split(r"\n\s*}|}\s*\Z", text)[0].strip(" ',")
        if plain.startswith('"') and not plain.endswith('"'):
            raise FeedbackError("the final rationale is cut off")
        return plain.strip(" \"',")
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            inside = text[1:at].strip()
            return _braced(inside) if inside.startswith("{") and inside.endswith("}") else inside
    raise FeedbackError("the final rationale is cut off")


def _without_bullets(text: str) -> str:
    lines = text.replace("\\n", "\n").split("\n")
    return "\n".join(re.sub(r"^\s*[-*•]\s+", "", line) for line in lines)
