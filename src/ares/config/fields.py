"""Field metadata of the schema: ranges of numbers, choices of words, placeholders of texts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin

_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list, [a, b, ...]",
}
MAPPING = "a mapping, {key: value, ...}"


@dataclass(frozen=True)
class Bounds:
    """The range of a finite number."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"between {self.at_least} and {self.at_most}"
        words = {"at_least": "of at least", "above": "above", "at_most": "of at most", "below": "below"}
        limits = {words[name]: limit for name, limit in vars(self).items() if limit is not None}
        return " and ".join(f"{text} {limit}" for text, limit in limits.items())


def bounded(default: float | None, **limits: float) -> Any:
    """A dataclass field for a number within `limits`, which are the fields of `Bounds`."""
    return field(default=default, metadata={"bounds": Bounds(**limits)})


def numbers(*default: int, **limits: float) -> Any:
    """A dataclass field for a list of whole numbers, each within `limits`."""
    return field(default_factory=lambda: list(default), metadata={"bounds": Bounds(**limits)})


def choice(*choices: str, default: str | None = None, note: str = "") -> Any:
    """A dataclass field for one of several words, the first by default; `note` is added to the error message."""
    return field(default=default or choices[0], metadata={"choices": choices, "note": note})


def choices_of(*choices: str, default: Sequence[str]) -> Any:
    """A dataclass field for a list of some of several words."""
    return field(default_factory=lambda: list(default), metadata={"choices": choices, "note": ""})


def text_with(*placeholders: str, default: str = "") -> Any:
    """A dataclass field for a text that has each of the placeholders."""
    return field(default=default, metadata={"placeholders": placeholders})


def file_of(group: str, default: str) -> Any:
    """A dataclass field for the name of a file of a configuration group."""
    return field(default=default, metadata={"group": group})


def block_of(item: Field[Any]) -> type | None:
    """The dataclass of a field that is a block of settings, None for a single setting."""
    return item.type if isinstance(item.type, type) and is_dataclass(item.type) else None


def requirement(item: Field[Any]) -> str:
    """A description of a field's possible values, such as "a whole number of at least 1, or null"."""
    kinds = (
        [kind for kind in get_args(item.type) if kind is not NoneType] if is_optional(item) else [item.type]
    )
    kind: Any = get_origin(kinds[0]) or kinds[0]
    bounds = item.metadata.get("bounds")
    limits = f"{', each' if kind is list else ''} {bounds}" if bounds else ""
    words = f"{_KINDS.get(kind, MAPPING)}{limits}"
    return f"{words}, or null" if is_optional(item) else words


def is_optional(item: Field[Any]) -> bool:
    """Whether the field may be null."""
    return NoneType in get_args(item.type)


def _arguments(known: type, values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Field[Any], Any]]:
    for item in fields(known):
        inner = block_of(item)
        if item.name in values and inner:
            yield from _arguments(inner, values[item.name], f"{prefix}{item.name}.")
        elif item.name in values:
            yield prefix + item.name, item, values[item.name]


def leaves(block: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """The dotted key, field and value of every setting in a block, checked arguments included."""
    for item in fields(block):
        key, value = prefix + item.name, getattr(block, item.name)
        if is_dataclass(value):
            yield from leaves(value, f"{key}.")
        elif known := item.metadata.get("known"):
            if block.is_own:
                yield from _arguments(known, value, prefix)
        else:
            yield key, item, value
