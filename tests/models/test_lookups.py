"""Lookups of embeddings whose gradients are added row by row."""

import pytest
import torch
from torch import Tensor, nn

from ares.models.lookups import sparse_lookups

IDS = [torch.tensor([[1, 2, 1]]), torch.tensor([3, 0, 9])]
SLOPES = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def looked_up(embedding: nn.Embedding) -> Tensor:
    return torch.stack([(embedding(ids) * SLOPES).sum() for ids in IDS]).sum()


@pytest.mark.parametrize("pad", [None, 0])
def test_gradients_are_those_of_dense_lookups(pad: int | None) -> None:
    """Also where two passes share a backward pass, and where a gradient is there already."""
    embedding = nn.Embedding(10, 4, padding_idx=pad)
    layouts: list[torch.layout] = []
    for passes in ((1.0, 2.0), (3.0,)):
        torch.stack([scale * looked_up(embedding) for scale in passes]).sum().backward()
    expected, embedding.weight.grad = embedding.weight.grad, None
    embedding.weight.register_hook(lambda slope: layouts.append(slope.layout))
    for passes in ((1.0, 2.0), (3.0,)):
        found = []
        for scale in passes:
            with sparse_lookups(embedding):
                found.append(scale * looked_up(embedding))
        torch.stack(found).sum().backward()
    assert embedding.weight.grad is not None
    torch.testing.assert_close(embedding.weight.grad, expected)
    assert layouts == [torch.strided, torch.sparse_coo]


def test_the_weight_is_itself_after_the_block() -> None:
    embedding = nn.Embedding(10, 4)
    weight = embedding.weight
    with pytest.raises(IndexError), sparse_lookups(embedding):
        embedding(torch.tensor([10]))
    assert embedding.weight is weight
    assert not embedding.sparse


def test_frozen_weights_and_other_modules_stay_as_they_are() -> None:
    embedding = nn.Embedding(10, 4).requires_grad_(False)
    for module in (embedding, nn.Sequential(embedding)):
        with sparse_lookups(module):
            assert not looked_up(embedding).requires_grad
            assert not embedding.sparse
