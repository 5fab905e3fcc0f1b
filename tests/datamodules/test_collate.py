from types import SimpleNamespace

import numpy as np
import torch
from ares.datamodules.collate import collate_prompts, collate_seq2seq, pad_right


class Store:
    def get(self, pids):
        return np.stack([np.full((2, 3), float(pid), dtype=np.float32) for pid in pids])


def test_padding_stands_behind_and_takes_its_type_from_the_value():
    ids = pad_right([[1, 2], [3], []], 0)
    assert ids.tolist() == [[1, 2], [3, 0], [0, 0]]
    assert ids.dtype == torch.int64
    assert pad_right([[1.0]], 0.0).dtype == torch.float32
    assert pad_right([[1]], 0, dtype=torch.int32).dtype == torch.int32
    assert pad_right([], 0).shape == (0, 0)


def test_prompts_carry_their_mask_and_their_problems_features():
    batch = collate_prompts([[5, 0, 6], [7]], ["4", "9"], 0, Store())
    assert batch["input_ids"].tolist() == [[5, 0, 6], [7, 0, 0]]
    # A padding id inside a prompt is still part of it.
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["image_features"].shape == (2, 2, 3)
    assert batch["image_features"][:, 0, 0].tolist() == [4.0, 9.0]
    assert collate_prompts([[5]], ["4"], 0, None)["image_features"] is None


def test_labels_are_ignored_on_padding_alone():
    rows = [
        SimpleNamespace(pid="4", input_ids=(5, 6), label_ids=(8, 0, 1)),
        SimpleNamespace(pid="9", input_ids=(7,), label_ids=(1,)),
    ]
    batch = collate_seq2seq(rows, 0, None)
    assert batch["labels"].tolist() == [[8, 0, 1], [1, -100, -100]]
    assert batch["input_ids"].tolist() == [[5, 6], [7, 0]]
