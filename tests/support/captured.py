"""Steps of writing as a CUDA graph would do them, without a GPU."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Operation = tuple[Any, tuple[Any, ...], dict[str, Any], Any]

# What makes the host wait for a GPU, or gives a tensor a shape that depends on data.
_WAITING = {"_local_scalar_dense", "item", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal"}


class Recording(TorchDispatchMode):
    """Records the operations of a step with the tensors that they read, and refuses those that wait for a GPU.

    A copy from the host is one of them, unless it `sends` things that are queued.
    """

    def __init__(self, *, sends: bool = False) -> None:
        super().__init__()
        self.sends = sends
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in _WAITING, f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            indices = [index for index in args[1] if index is not None]
            assert all(index.dtype == torch.long for index in indices), (
                f"{name} by a mask waits for the device"
            )
        found = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor)]
        if len({tensor.device.type for tensor in tensors if tensor.numel()}) > 1:
            queued = self.sends and ((kwargs or {}).get("non_blocking") or args[2:3] == (True,))
            assert queued, f"{name} copies between host and device"
        self.operations.append((func, args, kwargs or {}, found))
        return found


class Replayed:
    """A step whose second call is recorded, and whose further calls repeat the operations on the same memory.

    As in a CUDA graph nothing but the contents of tensors can differ between them: no shape, no number, no branch.
    """

    def __init__(self, step: Callable[[], None]) -> None:
        self.step, self.calls, self.operations = step, 0, list[Operation]()

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == 1:
            self.step()
        elif self.calls == 2:
            with Recording() as recording:
                self.step()
            self.operations = recording.operations
        else:
            for operation in self.operations:
                _repeat(*operation)


def _repeat(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], before: Any) -> None:
    again = func(*args, **kwargs)
    returned = [result for result, kind in zip(_listed(before), func._schema.returns, strict=False)]
    for kind, old, new in zip(func._schema.returns, returned, _listed(again), strict=False):
        if kind.alias_info is None:  # neither a view nor in place
            for one, other in zip(tree_leaves(old), tree_leaves(new), strict=True):
                if isinstance(one, Tensor):
                    assert one.shape == other.shape
                    one.copy_(other)


def _listed(returned: Any) -> tuple[Any, ...]:
    return returned if isinstance(returned, tuple) else (returned,)


@contextmanager
def half_on_cuda() -> Iterator[None]:
    """`torch.autocast("cuda", torch.bfloat16)`, which does nothing on a machine without a GPU."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


def on_fake_cuda(mode: FakeTensorMode, thing: Any) -> Any:
    """A copy of something whose tensors are on a CUDA device without memory."""

    def moved(tensor: Tensor, memo: Any) -> Tensor:
        if id(tensor) not in memo:
            fake = mode.from_tensor(tensor.detach())
            with mode:
                fake = fake.to("cuda")
            kept = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if kept else fake
        return memo[id(tensor)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "__deepcopy__", moved)
        patch.setattr(nn.Parameter, "__deepcopy__", moved)
        return copy.deepcopy(thing)


def run_on_fake_cuda(step: Callable[[], None], choose: Callable[[], Any]) -> set[str]:
    """Runs a copy of a step in bfloat16 whose tensors are on a CUDA device without memory; the names of its operations.

    `choose` makes what chooses tokens there. Fails where the step reads what is on another device or waits for a number.
    """
    mode = FakeTensorMode()
    copied = on_fake_cuda(mode, step.__self__)  # type: ignore[attr-defined]
    with mode, torch.no_grad():
        copied.choose = choose()
        with half_on_cuda(), Recording() as recording:
            copied.step()
    return {operation[0].overloadpacket.__name__ for operation in recording.operations}
