"""The `key: value` entries of a Teacher's reply: lines inside braces, and JSON of any order and nesting.

Values stay as they were written; `parsing.scores` decides what a score is.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

Entry = tuple[str, str]

_OBJECT = re.compile(r"{.*?}", re.DOTALL)
_HEADING = re.compile(r"^[\s#*\"{_-]*rationale[\s_#*]*(\d+)[\"*:.)\s]*", re.IGNORECASE | re.MULTILINE)
_EXTRA_COMMA = re.compile(r'("(?:\\.|[^"\\\n])*")|,(?=\s*[}\]])')
_BLANK_VALUE = re.compile(r"([:\[,]\s*)(xxx|nan)(?=\s*[,}\]])", re.IGNORECASE)


# A numbered key and a value in any notation, and what may be left of a reply that consists of such pairs only.
_PAIR = re.compile(r"[\"'“‘*`]*(\d+\.\d+)[\"'”’*`]*\s*[:=|]\s*([^\s,;{}\[\]()|]+)", re.ASCII)
_BETWEEN = re.compile(r"(?:[\s{}\[\](),;|\"'*`•-]|\b(?:json|scores?)\b:?)*", re.IGNORECASE)


class Pairs(list[tuple[str, Any]]):
    """A JSON object as ordered pairs; a repeated sentence is a repeated key."""


class _Number(str):
    """A JSON number as it was written."""


def objects(text: str) -> list[str]:
    """Every shortest `{...}`."""
    return _OBJECT.findall(text)


def line_objects(text: str) -> list[list[Entry]]:
    """For every shortest `{...}` its lines with a colon, split at the last one."""
    found = []
    for match in objects(text):
        pairs = [line.rsplit(":", 1) for line in match.strip().split("\n") if ":" in line]
        found.append([(key, value.strip(" ,}\t")) for key, value in pairs])
    return found


def sections(text: str) -> dict[int, str]:
    """The text under each heading `Rationale <i>`; empty for a heading that occurs twice."""
    headings = list(_HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    found: dict[int, str] = {}
    for heading, end in zip(headings, ends, strict=False):
        number = int(heading[1])
        # With a repeated heading (an echoed question, a second try) it is unclear which part counts.
        found[number] = "" if number in found else text[heading.end() : end]
    return found


def load_json(text: str) -> Any:
    """The JSON value from the first to the last bracket, objects as Pairs; None if it is not JSON.

    A comma after the last member does no harm.
    """
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=len(text))
    end = max(text.rfind("}"), text.rfind("]")) + 1
    try:
        return json.loads(
            _BLANK_VALUE.sub(r"\1null", _EXTRA_COMMA.sub(r"\1", text[start:end])),
            strict=False,
            object_pairs_hook=Pairs,
            parse_float=_Number,
            parse_int=_Number,
            parse_constant=_Number,
        )
    except (ValueError, RecursionError):
        return None


def json_values(text: str, name: str) -> list[Any]:
    """The values of this key (any case, words joined by `_` or a space) in the JSON objects of a text, at any depth."""
    found: list[Any] = []
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=Pairs)
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
            found += _values(value, name)
        except (ValueError, RecursionError):
            end = at + 1
        at = text.find("{", end)
    return found


def json_entries(text: str) -> list[Entry]:
    """The pairs of a JSON object, unwrapped from objects with a single member; none if the text is not such JSON."""
    value = load_json(text)
    while isinstance(value, Pairs) and len(value) == 1 and isinstance(value[0][1], Pairs):
        value = value[0][1]
    return [(key, _written(item)) for key, item in value] if isinstance(value, Pairs) else []


def json_rows(text: str) -> list[Entry]:
    """The pairs `id`, `score` of the rows of a JSON list, alone or the only value of an object; none if any row has
    other keys or a repeated one."""
    value = load_json(text)
    if isinstance(value, Pairs) and len(value) == 1:
        value = value[0][1]
    rows = value if _is_list(value) else []
    if not all(isinstance(row, Pairs) and sorted(key for key, _ in row) == ["id", "score"] for row in rows):
        return []
    return [(str(dict(row)["id"]), _written(dict(row)["score"])) for row in rows]


def json_leaves(text: str) -> list[Entry]:
    """The pairs of a JSON object, at any depth, whose values are not objects."""
    value = load_json(text)
    return [(key, _written(item)) for key, item in _leaves(value)] if isinstance(value, Pairs) else []


def json_parts(text: str) -> list[str]:
    """The members of a JSON object or list of objects or lists, each as an object with one entry per line; none if
    numbers in the members' keys mean another order."""
    value = load_json(text)
    items = [item for _, item in value] if isinstance(value, Pairs) else value
    if not isinstance(items, list) or not all(isinstance(item, list) for item in items):
        return []
    names = " ".join(key for key, _ in value) if isinstance(value, Pairs) else ""
    numbers = [int(number) for number in re.findall(r"[0-9]+", names)]
    return [_lines(item) for item in items] if numbers in ([], [*range(1, len(items) + 1)]) else []


def plain_pairs(text: str) -> list[Entry]:
    """The pairs of a text that consists of nothing else: other brackets and quotes than JSON's, lines, a table.

    None where anything else is left, or a bracket is not closed: the reply may mean something else, or be cut off.
    """
    rest = _PAIR.sub(" ", text)
    balanced = all(text.count(a) == text.count(b) for a, b in ("{}", "[]", "()"))
    return _PAIR.findall(text) if balanced and _BETWEEN.fullmatch(rest) else []


def _values(pairs: Pairs, name: str) -> Iterator[Any]:
    for key, item in pairs:
        if key.lower().replace(" ", "_") == name:
            yield item
        elif isinstance(item, Pairs):
            yield from _values(item, name)


def _leaves(pairs: Pairs) -> Iterator[tuple[str, Any]]:
    for key, item in pairs:
        if isinstance(item, Pairs):
            yield from _leaves(item)
        else:
            yield key, item


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and not isinstance(value, Pairs)


def _lines(item: list[Any]) -> str:
    pairs = item if isinstance(item, Pairs) else enumerate(item)
    return "{" + "\n".join(f"{key}: {_written(value)}" for key, value in pairs) + "}"


def _written(value: Any) -> str:
    # Only numbers stay as written: the string "0.5" is not the score 0.5.
    return value if isinstance(value, _Number) else repr(value)
