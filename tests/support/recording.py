"""A configuration that records which of its settings are read."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any


class RecordedDict(dict):
    """A dictionary that adds `prefix + key` to `reads` for each key that is read or asked for."""

    def __init__(self, items: Any, reads: set[str], prefix: str = "") -> None:
        super().__init__(items)
        self._reads, self._prefix = reads, prefix

    def __getitem__(self, key: str) -> Any:
        self._reads.add(self._prefix + key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._reads.add(f"{self._prefix}{key}")
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            self._reads.add(self._prefix + key)
            yield key

    def get(self, key: str, default: Any = None) -> Any:
        self._reads.add(self._prefix + key)
        return super().get(key, default)

    def keys(self) -> Any:
        return dict.fromkeys(self).keys()

    def items(self) -> Any:
        return {key: self[key] for key in self}.items()


def recorded(block: Any, reads: set[str], prefix: str = "") -> Any:
    """A copy of a block of the configuration that adds the dotted key of each setting to `reads` when it is read."""
    if isinstance(block, dict):
        return RecordedDict(block, reads, prefix)
    if not is_dataclass(block):
        return block
    names = {field.name for field in fields(block)}

    def read(self: Any, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name == "__dict__":
            reads.update(f"{prefix}{field}" for field in names)
        elif name in names and not is_dataclass(value):
            reads.add(prefix + name)
        return value

    copy = object.__new__(type("Recorded", (type(block),), {"__getattribute__": read}))
    for name in names:
        object.__setattr__(copy, name, recorded(getattr(block, name), reads, f"{prefix}{name}."))
    return copy


def settings(block: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted key and the value of every setting."""
    items = (
        block.items()
        if isinstance(block, dict)
        else ((f.name, getattr(block, f.name)) for f in fields(block))
    )
    for name, value in items:
        if is_dataclass(value) or (isinstance(value, dict) and value):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
