"""Checks the value of one setting against the schema: type, range and choices."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ares.config.compose import OPTIONS, known_arguments, options
from ares.config.fields import MAPPING, block_of, is_optional, requirement
from ares.config.schema import Config
from ares.config.suggestions import suggest


def refusal(key: str, item: Field[Any], value: Any) -> str | None:
    """A sentence about a value outside its field's range or choices, None for a possible value."""
    group = item.metadata.get("group")
    choices = options(group) if group else item.metadata.get("choices", ())
    bounds = item.metadata.get("bounds")
    placeholders = item.metadata.get("placeholders", ())
    words = value if isinstance(value, list | ListConfig) else [value]
    right = all(word in (bounds or choices) for word in words) if bounds or choices else True
    right &= all(part in str(value) for part in placeholders)
    if right or (value is None and is_optional(item)):
        return None
    if placeholders:
        return f"{key}: it must contain {' and '.join(placeholders)}, where that text belongs."
    if group:
        return f"{key}={shown(value)}: there is no such {group}.{suggest(str(value), choices)}"
    if choices:
        wrong = next(word for word in words if word not in choices)
        advice = [f"choose from {', '.join(choices)}.{suggest(str(wrong), choices)}", item.metadata["note"]]
        return f"{key}={shown(value)}: {' '.join(filter(None, advice))}"
    return f"{key}={shown(value)}: it must be {requirement(item)}."


def problems_with_value(cfg: DictConfig, key: str, value: Any) -> Iterator[str]:
    """The mistakes in a setting's value."""
    if isinstance(value, str) and "${" in value:
        return
    block, item = _owner(cfg, key)
    if item is None:
        if words := _other_kind(OmegaConf.select(cfg, key), value):
            yield f"{key}={shown(value)}: it must be {words}."
        return
    if block_of(item) and isinstance(value, dict):
        for name, inner in value.items():
            yield from problems_with_value(cfg, f"{key}.{name}", inner)
        return
    node = OmegaConf.structured(block)
    try:
        OmegaConf.update(node, item.name, value)
    except OmegaConfBaseException:
        yield f"{key}={shown(value)}: it must be {requirement(item)}."
        return
    if not block_of(item) and (problem := refusal(key, item, node[item.name])):
        yield problem


def _owner(cfg: DictConfig, key: str) -> tuple[type | None, Field[Any] | None]:
    """The block of a key's field, and the field; None for a key that is not in the schema."""
    block: type | None = Config
    first, *rest = key.split(".")
    item = _field(block, first)
    for name in rest:
        block = block_of(item) if item else None
        item = _field(block, name)
        if item is None and block in OPTIONS.values():
            target = cfg[first].get("_target_")
            block = known_arguments(block) if block(_target_=target).is_own else None  # type: ignore[misc, arg-type]
            item = _field(block, name)
    return block, item


def shown(value: Any) -> str:
    """A value as it is typed, shortened if it is long."""
    return shortened(json.dumps(value) if value is None or isinstance(value, bool) else str(value))


def shortened(text: str, length: int = 200) -> str:
    """The beginning of a text for a message."""
    return text if len(text) <= length else f"{text[:length]}..."


def _field(block: type | None, name: str) -> Field[Any] | None:
    return next((item for item in fields(block) if item.name == name), None) if block else None


def _other_kind(default: Any, value: Any) -> str | None:
    """What a value must be to match the type of its default, None if it does."""
    kinds: Mapping[str, tuple[type, ...]] = {
        "true or false": (bool,),
        "a number": (int, float),
        MAPPING: (dict, DictConfig),
    }
    for words, types in kinds.items():
        if type(default) in types and type(value) not in types:
            return words
    return None
