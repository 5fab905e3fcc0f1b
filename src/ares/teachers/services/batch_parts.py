"""Requests that wait for a Message Batch, split into parts that each fit into one batch."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ares.teachers.messages import Reply, Request

Waiting = dict[str, tuple[Request, asyncio.Future[Reply]]]
_OVERHEAD = 64  # bytes of a request in addition to its id and its parameters


def still_open(waiting: Waiting) -> Waiting:
    """The requests that have neither a reply nor a failure."""
    return {name: item for name, item in waiting.items() if not item[1].done()}


def split(
    waiting: Waiting,
    params: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    max_requests: int,
    max_bytes: int,
) -> Iterator[Waiting]:
    """Parts of at most `max_requests` requests and, unless a single one is larger, `max_bytes` bytes."""
    part: Waiting = {}
    room = max_bytes
    for name, item in waiting.items():
        size = len(json.dumps(params(item[0].payload), ensure_ascii=False).encode()) + len(name) + _OVERHEAD
        if part and (size > room or len(part) == max_requests):
            yield part
            part, room = {}, max_bytes
        part[name] = item
        room -= size
    if part:
        yield part
