"""Ranks exchange values of any size through a TCPStore, as long as it takes."""

import multiprocessing
import os
import time

import pytest

from ares.ranks import barrier, gather, is_first, rank, shard, world_size


def test_outside_a_group_there_is_one_rank(monkeypatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("RANK", "3")  # of some other tool: not torchrun's without a LOCAL_RANK
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (rank(), world_size(), is_first()) == (0, 1, True)
    assert shard("abc") == ["a", "b", "c"]
    assert gather({"a": (1,)}) == [{"a": (1,)}]
    barrier()


def test_ranks_share_items(monkeypatch) -> None:
    found = []
    for number in range(3):
        for name, value in {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 3}.items():
            monkeypatch.setenv(name, str(value))
        assert (rank(), world_size(), is_first()) == (number, 3, number == 0)
        found.append(shard(range(8)))
    assert found == [[0, 3, 6], [1, 4, 7], [2, 5]]


def exchange(number: int, port: int, results: "multiprocessing.Queue[tuple[int, bool, float]]") -> None:
    os.environ |= {
        **{"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"},
    }
    barrier()
    started = time.monotonic()
    if number == 1:
        time.sleep(1.0)
    barrier()
    waited = time.monotonic() - started
    large = {"text": "ä" * (9 << 20)}  # over what a store takes at once
    parts = gather(large if number else {"text": ""})
    results.put((number, parts == [{"text": ""}, large], waited))


@pytest.mark.slow
def test_values_over_the_limit_of_a_store_arrive_and_slow_ranks_are_waited_for() -> None:
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    ranks = [context.Process(target=exchange, args=(number, store.port, results)) for number in (0, 1)]
    for process in ranks:
        process.start()
    found = sorted(results.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    assert [(number, equal) for number, equal, _ in found] == [(0, True), (1, True)]
    assert all(waited >= 0.9 for _, _, waited in found)
