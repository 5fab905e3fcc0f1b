"""What the host knows, sent to a device without waiting for the work it has been given."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def sent(known: Tensor | np.ndarray, device: torch.device | str) -> Tensor:
    """A tensor or array of the host on `device`; to a GPU it goes from pinned memory, after what is queued there."""
    tensor = torch.as_tensor(known)
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def real_places(lengths: Sequence[int], width: int) -> np.ndarray:
    """The indices (n,) int64 of all tokens among the B · `width` places of right-padded rows with `lengths` tokens."""
    return np.flatnonzero(np.arange(width) < np.asarray(lengths, dtype=np.int64)[:, None])
