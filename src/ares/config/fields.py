"""Field metadata of the schema: the range of a number and the choices of a word."""

import math
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}
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
        limits = {
            "of at least": self.at_least,
            "above": self.above,
            "of at most": self.at_most,
            "below": self.below,
        }
        return " and ".join(f"{words} {limit}" for words, limit in limits.items() if limit is not None)


def bounded(
    default: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field for a number with a range."""
    return field(default=default, metadata={"bounds": Bounds(at_least, above, at_most, below)})


def choice(*choices: str, default: str | None = None, note: str = "") -> Any:
    """A dataclass field for one of some words, the first by default; `note` is added to a refusal."""
    return field(
        default=choices[0] if default is None else default, metadata={"choices": choices, "note": note}
    )


def file_of(group: str, default: str) -> Any:
    """A dataclass field for the name of a file of a configuration group."""
    return field(default=default, metadata={"group": group})


def block_of(item: Field[Any]) -> type | None:
    """The dataclass of a field that is a block of settings, None for a single setting."""
    return item.type if isinstance(item.type, type) and is_dataclass(item.type) else None


def requirement(item: Field[Any]) -> str:
    """What a field's value must be, in words: "a whole number of at least 1, or null"."""
    kinds = [kind for kind in get_args(item.type) if kind is not NoneType] or [item.type]
    kind = get_origin(kinds[0]) or kinds[0]
    bounds = item.metadata.get("bounds")
    words = " ".join([_KINDS.get(kind, MAPPING), *([str(bounds)] if bounds else [])])
    return f"{words}, or null" if is_optional(item) else words


def is_optional(item: Field[Any]) -> bool:
    """Whether null is a value of the field."""
    return NoneType in get_args(item.type)


def leaves(block: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """The dotted key, field and value of every setting of a block that has a field."""
    for item in fields(block):
        key, value = prefix + item.name, getattr(block, item.name)
        if is_dataclass(value):
            yield from leaves(value, f"{key}.")
        elif known := item.metadata.get("known"):
            checked = {field.name: field for field in fields(known)} if block.is_own else {}
            yield from ((prefix + name, checked[name], value[name]) for name in checked if name in value)
        else:
            yield key, item, value
