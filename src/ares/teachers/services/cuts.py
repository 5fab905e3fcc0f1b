"""What waits for a Message Batch, cut into parts that each fit into one."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ares.teachers.messages import Reply, Request

Asked = dict[str, tuple[Request, asyncio.Future[Reply]]]
_AROUND = 64  # bytes of a request beside its id and its parameters


def still_open(asked: Asked) -> Asked:
    """Those that have neither a reply nor a failure."""
    return {name: item for name, item in asked.items() if not item[1].done()}


def cut(
    asked: Asked, arguments: Callable[[Request], Mapping[str, Any]], most: int, most_bytes: int
) -> Iterator[Asked]:
    """Parts of at most so many requests and, unless one alone is larger, so many bytes."""
    part: Asked = {}
    room = most_bytes
    for name, item in asked.items():
        size = len(json.dumps(arguments(item[0]), ensure_ascii=False).encode()) + len(name) + _AROUND
        if part and (size > room or len(part) == most):
            yield part
            part, room = {}, most_bytes
        part[name] = item
        room -= size
    if part:
        yield part
