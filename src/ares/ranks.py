"""Which of a step's processes this is, and how they hand one another results.

They exchange files, so that a slow rank is waited for by looking, never in a collective that times out. Outside a
group of processes there is one rank, 0, and nothing is waited for.
"""

import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from ares.storage.files import read_json, write_json

T = TypeVar("T")
EXCHANGE = "ARES_EXCHANGE"  # the folder of the running step's messages
_POLL_SECONDS = 0.05
_calls = itertools.count()


def rank() -> int:
    """This process's number in the step's group, 0 outside one."""
    return int(os.environ["RANK"]) if EXCHANGE in os.environ else 0


def world_size() -> int:
    """The number of processes in the step's group, 1 outside one."""
    return int(os.environ["WORLD_SIZE"]) if EXCHANGE in os.environ else 1


def is_first() -> bool:
    """Whether this process is the one that writes what the step makes."""
    return rank() == 0


def shard(items: Sequence[T]) -> list[T]:
    """This rank's items: every `world_size`-th; together the ranks have each item once."""
    return list(items[rank() :: world_size()])


def gather(mine: Any) -> list[Any]:
    """What each rank handed in, in order of rank; JSON's types alone. Every rank must call it, in the same order."""
    if world_size() == 1:
        return [mine]
    folder = Path(os.environ[EXCHANGE]) / f"gather-{next(_calls)}"
    write_json(folder / f"{rank()}.json", mine)
    return [_wait_for(folder / f"{other}.json") for other in range(world_size())]


def _wait_for(path: Path) -> Any:
    # A rank that died is not waited for: whoever started the group ends all of it.
    while not path.exists():
        time.sleep(_POLL_SECONDS)
    return read_json(path)
