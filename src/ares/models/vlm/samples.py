"""A prompt as token ids and the tensors of its images, and the tensors of several as one batch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ares.types import Example


class Sample:
    """An example with the token ids of its prompt (`tokens`, a list per key) and, if cached, its images' tensors."""

    def __init__(
        self, example: Example, tokens: dict[str, list[int]], images: dict[str, Tensor] | None = None
    ) -> None:
        self.example, self.tokens, self.images = example, tokens, images

    def followed_by(self, ids: Sequence[int], kind: int) -> "Sample":
        """The same prompt with some of its response, whose `token_type_ids` are `kind`."""
        fillers = {"attention_mask": 1, "token_type_ids": kind}
        added = {key: [fillers.get(key, 0)] * len(ids) for key in self.tokens} | {"input_ids": list(ids)}
        return Sample(self.example, {key: own + added[key] for key, own in self.tokens.items()}, self.images)


def concatenated(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors of several samples as one batch, by key: other dimensions than the first are padded with zeros."""
    found = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        parts = [row[key] for row in rows if key in row]
        shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
        padded = []
        for part in parts:
            missing = [(0, most - size) for most, size in zip(shape, part.shape[1:], strict=True)]
            padded.append(F.pad(part, [n for pair in reversed(missing) for n in pair]))
        found[key] = torch.cat(padded)
    return found
