"""Keys and values of rows that started together, through growth and the removal of rows and prompts."""

import random

import torch

from ares.models.cohorts import Cohort, keep_rows

HEADS, WIDTH, K = 2, 3, 3


def cohort(lengths: list[int], longest: int = 400) -> Cohort:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    prompts = torch.arange(len(lengths)).view(-1, 1, 1, 1).expand(-1, HEADS, max(lengths), WIDTH).float()
    return Cohort([(prompts, prompts)], mask, mask.sum(1), k=K, longest=longest)


def test_rows_keep_their_keys_and_their_prompts() -> None:
    """Each row writes its own number and its age; its prompt's keys are the prompt's number."""
    draw, found = random.Random(0), cohort([4, 9, 2, 5])
    rows = list(range(12))
    while rows:
        newest = torch.tensor(rows)[:, None, None, None] * 1000.0 + found.age
        keys, values = found.extend(
            0, newest.expand(-1, HEADS, 1, WIDTH), -newest.expand(-1, HEADS, 1, WIDTH)
        )
        found.age += 1
        expected = torch.tensor(rows)[:, None] * 1000.0 + torch.arange(found.age)
        assert torch.equal(keys, expected[:, None, :, None].expand(-1, HEADS, -1, WIDTH))
        assert torch.equal(values, -keys)
        own = found.by_row(found.by_prompt(newest.expand(-1, HEADS, 1, WIDTH)))
        assert torch.equal(own.view(len(rows), HEADS, WIDTH), newest[:, :, 0].expand(-1, HEADS, WIDTH))
        of_prompt = found.by_row(found.prompts[0][0][:, :, :1].expand(-1, -1, K, -1))
        assert (of_prompt[:, 0] == torch.tensor([row // K for row in rows])).all()
        if draw.random() < 0.08:
            alive = [draw.random() < 0.8 for _ in rows]
            [*_], order = keep_rows([found], alive)
            assert sorted(order) == [place for place, stays in enumerate(alive) if stays]
            rows = [rows[place] for place in order]
    assert found.age > 128  # the memory for keys was enlarged twice
    assert len(found.mask) < 4  # prompts without rows were removed


def test_a_row_sees_its_prompt_and_its_own_tokens_within_the_window() -> None:
    found = cohort([4, 2])
    found.age = 2
    found.keep([True, False, False, True, False, False])
    assert found.seen(None).int().tolist() == [[1, 1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1, 1]]
    assert found.seen(4).int().tolist() == [[0, 0, 0, 1, 1, 1, 1], [0, 1, 0, 0, 1, 1, 1]]
    assert found.seen(2).int().tolist() == [[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1]]


def test_prompts_without_tokens_keep_a_column() -> None:
    """Of a prompt of one token none is left, because a decoder-only model reads it again for each row."""
    found = cohort([3, 1, 1])
    found.mask[:, 0] = False
    found.mask[0, 1] = True
    found.keep([False] * 3 + [True] * 3 + [False] * 3)
    assert found.prompts[0][0].shape == (1, HEADS, 1, WIDTH)
    assert found.seen(None).tolist() == [[False, True]] * 3
