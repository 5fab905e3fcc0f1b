"""Batches whose images are read while the device computes the batch before."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset, Sampler


class Batches(Protocol):
    """Micro-batches by number, each with its prompts under `inputs`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


def load_batches(
    batches: Batches, trainer: pl.Trainer | None, sampler: Sampler[int] | None = None
) -> DataLoader[Mapping[str, Any]]:
    """The batches for a Trainer, in the sampler's order; on a GPU, each is read while the one before is computed, and pinned.

    A thread suffices, because decoding images releases Python's lock; everything else in a batch takes less than a
    millisecond, for which worker processes would take longer to send it.
    """
    on_gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
    source: Any = ReadAhead(batches) if on_gpu else batches
    return DataLoader(source, batch_size=None, sampler=sampler, pin_memory=on_gpu)


class ReadAhead(Dataset[Mapping[str, Any]]):
    """The same batches with their images in memory; asking for one has a thread read the next."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self.waiting: dict[int, Future[Mapping[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        found = self.waiting.get(index) or self.thread.submit(self._read, index)
        self.waiting = {}
        if index + 1 < len(self):
            self.waiting = {index + 1: self.thread.submit(self._read, index + 1)}
        return found.result()

    def _read(self, index: int) -> Mapping[str, Any]:
        batch = self.batches[index]
        return {**batch, "inputs": batch["inputs"].loaded()}
