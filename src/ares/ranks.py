"""The ranks of a process group that torchrun or torch's elastic agent started, and how they exchange values.

Values travel through the group's TCPStore, not through collectives, so that waiting for a slow rank cannot time out.
Outside a group there is one rank, 0, and torch is not imported.
"""

import functools
import itertools
import os
import pickle
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch.distributed import Store

T = TypeVar("T")
_PIECE_BYTES = 4 * 2**20  # a TCPStore refuses values over 8 MiB
_WAIT = timedelta(seconds=1)  # then Python runs signal handlers, and waits again
_calls = itertools.count()


def world_size() -> int:
    """The number of processes in the group, 1 outside one."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """This process's number in the group, 0 outside one."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def is_first() -> bool:
    """Whether this is rank 0, the one that writes a step's results."""
    return rank() == 0


def shard(items: Sequence[T]) -> list[T]:
    """This rank's items: every `world_size`-th. Together the ranks hold each item once."""
    return list(items[rank() :: world_size()])


def gather(value: T) -> list[T]:
    """The values that all ranks passed, in order of rank; anything that pickles.

    Every rank must call it, in the same order.
    """
    if world_size() == 1:
        return [value]
    store, call = _store(), next(_calls)
    data = pickle.dumps(value)
    pieces = [data[start : start + _PIECE_BYTES] for start in range(0, len(data), _PIECE_BYTES)]
    for number, piece in enumerate(pieces):
        store.set(f"{call}/{rank()}/{number}", piece)  # type: ignore[arg-type]  # bytes are accepted
    store.set(f"{call}/{rank()}", str(len(pieces)))
    return [_receive(store, f"{call}/{other}") for other in range(world_size())]


def barrier() -> None:
    """Returns when all ranks have called it."""
    gather(None)


def _receive(store: "Store", key: str) -> Any:
    # If a rank dies, the agent that started the group stops all ranks, so this does not wait forever.
    while not _arrives(store, key):
        continue
    parts = (store.get(f"{key}/{number}") for number in range(int(store.get(key))))
    return pickle.loads(b"".join(parts))  # noqa: S301  # written by another rank of this run


def _arrives(store: "Store", key: str) -> bool:
    from torch.distributed import DistStoreError

    try:
        store.wait([key], _WAIT)
    except DistStoreError:  # after _WAIT; a lost connection is another error
        return False
    return True


def stop_at(step: int, asked: bool) -> bool:
    """Whether all ranks stop after this optimizer step; each asks after every one, and rank 0 may have `asked` for it.

    It takes effect one step later: no rank can be further ahead, because they exchange gradients. Nothing is waited for.
    """
    if world_size() == 1:
        return asked
    store = _store()
    if store.check(["stop"]):
        return step >= int(store.get("stop"))
    if asked and is_first():
        store.set("stop", str(step + 1))
    return False


@functools.cache
def _store() -> "Store":
    """The TCPStore at MASTER_ADDR:MASTER_PORT, which `init_process_group` uses as well."""
    from torch.distributed import PrefixStore, rendezvous

    store, _, _ = next(rendezvous("env://"))
    return PrefixStore("ares", store)
