"""Batches whose images are read in advance, and where they are."""

import threading
import types
from typing import Any

import pytest
import torch

from ares.datamodules.ahead import ReadAhead
from ares.datamodules.supervised import Encoded, SupervisedData
from ares.types import AresError, Example
from tests.support.number_vlm import number_vlm, picture


def supervised() -> SupervisedData:
    """Six rows of one image each, in batches of two; no image is cached."""
    policy = number_vlm()
    inputs = policy.encode([Example("", "", str(n), (picture(n),), f"{n + 3}") for n in range(6)])
    for sample in inputs.samples:
        sample.images = None
    data = SupervisedData(pad_id=0, micro=2, accumulate=1, eval_batch=2, seed=0)
    data.train = data.val = Encoded(inputs, [[5, 1]] * 6)
    return data


def on(device: str) -> Any:
    """As much of a Trainer as the data asks for."""
    strategy = types.SimpleNamespace(root_device=torch.device(device))
    loop = types.SimpleNamespace(restarting=False)
    return types.SimpleNamespace(strategy=strategy, fit_loop=loop, current_epoch=0)


@pytest.mark.parametrize("kind", ["train_dataloader", "val_dataloader"])
def test_a_gpu_gets_the_same_batches_with_their_images_read_ahead(kind, monkeypatch) -> None:
    data = supervised()
    data.trainer = on("cpu")
    plain = getattr(data, kind)()
    assert not isinstance(plain.dataset, ReadAhead)
    assert not plain.pin_memory
    data.trainer = on("cuda")
    ahead = getattr(data, kind)()
    assert isinstance(ahead.dataset, ReadAhead)
    assert ahead.pin_memory

    reader, readers = data.train.inputs.reader, []
    read = type(reader).images_of
    monkeypatch.setattr(
        type(reader),
        "images_of",
        lambda self, sample: readers.append(threading.current_thread()) or read(self, sample),
    )
    batches = list(ahead)
    assert len(readers) == 6
    assert threading.main_thread() not in readers
    for found, expected in zip(batches, plain, strict=True):
        assert all(sample.images is not None for sample in found["inputs"].samples)
        assert found["response_ids"].equal(expected["response_ids"])
        one, other = found["inputs"].prompts(), expected["inputs"].prompts()
        assert one.keys() == other.keys()
        assert all(tensor.equal(other[name]) for name, tensor in one.items())
    assert all(sample.images is None for sample in data.train.inputs.samples)


def test_the_next_batch_is_read_while_one_is_used() -> None:
    read = [threading.Event() for _ in range(3)]

    class Batches(list[threading.Event]):
        def __getitem__(self, index: Any) -> Any:
            return {"inputs": types.SimpleNamespace(loaded=super().__getitem__(index).set)}

    ahead = ReadAhead(Batches(read))
    assert ahead[0]
    assert read[1].wait(10)
    assert not read[2].is_set()


def test_an_image_that_cannot_be_read_stops_the_batch_that_has_it(tmp_path) -> None:
    data = supervised()
    missing = Example("", "", "x", (tmp_path / "missing.png",), "4")
    data.train.inputs.samples[5].example = missing  # type: ignore[attr-defined]
    batches = ReadAhead([data.train.batch([n], 1, 0) for n in range(6)])
    for number in range(5):
        assert len(batches[number]["inputs"]) == 1
    with pytest.raises(AresError, match="missing"):
        batches[5]
