"""CUDA graphs: a step of writing is recorded once and replayed, at the cost of one launch, without Python.

A graph reads and writes the memory it was recorded with. So it lives within one call of `Policy.write`, in which weights,
the copies of them that autocast keeps, and all that a step changes stay where they are. Everything else that Python
knows is the same in every step: the network gets tensors of the same shapes, and a cache that never grows.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from ares.models.scheduling import Capture, Step
from ares.models.trainable import Trainable


def capture_of(policy: Trainable) -> Capture | None:
    """How steps are captured: in CUDA graphs, on a GPU, where weights stay where they are while a policy writes."""
    if policy.device.type != "cuda" or not keeps_its_weights(policy):
        return None
    return cuda_graphs(type(policy.model).__name__, policy.device)


def keeps_its_weights(model: nn.Module) -> bool:
    """Whether weights are neither gathered from other ranks nor unpacked from 4 bits."""
    from torch.distributed.fsdp import FSDPModule

    return not any(
        isinstance(module, FSDPModule) or type(module).__module__.startswith("bitsandbytes.")
        for module in model.modules()
    )


def cuda_graphs(model: str, device: torch.device) -> Capture:
    """Records steps in graphs that share their memory; `model` is named where that fails."""
    pool, stream = torch.cuda.graph_pool_handle(), _stream(device)

    def record(step: Step) -> Step:
        graph = torch.cuda.CUDAGraph()
        # Only this thread must not wait for the GPU meanwhile: another reads images, NCCL has its own.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            step()
        return graph.replay

    return lambda step: RecordedStep(step, record, model)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """The one stream on which steps are recorded: cuBLAS may keep memory for each stream that it has seen."""
    return torch.cuda.Stream(device)


class RecordedStep:
    """A step that runs by itself the first time, when libraries allocate and autocast converts, and is recorded the second.

    Recording does not run it. One that cannot be recorded, because it waits for the GPU, runs by itself every time.
    """

    def __init__(self, step: Step, record: Callable[[Step], Step], model: str) -> None:
        self._step, self._record, self._model = step, record, model
        self._run: Step = self._first

    def __call__(self) -> None:
        self._run()

    def _first(self) -> None:
        self._step()
        self._run = self._second

    def _second(self) -> None:
        try:
            self._run = self._record(self._step)
        except RuntimeError as error:
            # Where a step fails, ending the recording fails, too, and that error comes last.
            cause = error.__context__ or error
            warnings.warn(
                f"{self._model} writes without CUDA graphs, which is slower: {cause}".partition("\n")[0],
                stacklevel=2,
            )
            self._run = self._step
        self._run()
