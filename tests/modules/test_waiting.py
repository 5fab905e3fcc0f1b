"""A micro-batch of an update gives a GPU its work without waiting for it, on a CUDA device without memory."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor
from torch._subclasses import FakeTensorMode

from ares.config.schema import FitConfig
from ares.datamodules.pairs import PairData
from ares.datamodules.supervised import encode
from ares.models.policy import Policy
from ares.modules.preference_module import PreferenceModule
from ares.modules.supervised import SupervisedModule
from ares.types import Example
from tests.support.captured import Recording, half_on_cuda, on_fake_cuda
from tests.support.policies import number_policy
from tests.support.ppo import TinyFeatures, module_and_batch, tiny_policy
from tests.support.preference import PREFER, make_pairs, pair_buffer

Update = tuple[Any, dict[str, Any]]


def ppo(policy: Policy) -> Update:
    """A step of PPO."""
    module, _ = module_and_batch(lambda seed=0: policy)
    buffer = module.data.buffer
    return module, {**buffer.batch(without_images(buffer)), "denominator": 9.0}


def prefer(policy: Policy) -> Update:
    """A step of DPO."""
    buffer = pair_buffer(policy, make_pairs(policy))
    module = PreferenceModule(policy, PairData(buffer, global_batch=4, micro=4, world=1, seed=0), PREFER)
    return module, {**buffer.batch(without_images(buffer)), "denominator": 4.0}


def without_images(buffer: Any) -> list[int]:
    """Rows of prompts without images, of which transformers counts the tokens, and waits for the number."""
    return [row for row in buffer.train if buffer.question[row] % 2]


def supervised(policy: Policy) -> Update:
    """A step of fine-tuning."""
    rows = encode(policy, [Example("5 6", "7 8", "a"), Example("5", "6", "b")], max_output_tokens=9)
    module = SupervisedModule(
        policy, FitConfig(), total_steps=1, score=lambda *_: 0.0, metric="val/rougeL", block="sft"
    )
    module.lr_schedulers = lambda: SimpleNamespace(get_last_lr=lambda: [0.0])  # type: ignore[method-assign, assignment]
    module.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    return module, rows.batch([0, 1], 5, 0)  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["t5", "vlm"])
@pytest.mark.parametrize("update", [ppo, prefer, supervised])
def test_an_update_waits_for_nothing(update: Callable[[Policy], Update], kind: str, monkeypatch) -> None:
    policy = number_policy(features=TinyFeatures()) if kind == "t5" else tiny_policy(kind=kind)
    module, batch = update(policy)
    pinned = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    mode = FakeTensorMode()
    module = on_fake_cuda(mode, module)
    # In float32 the first step checks ratios, once per fit.
    trainer = {"current_epoch": 0, "global_step": 1, "accumulate_grad_batches": 1, "world_size": 1}
    module._trainer = SimpleNamespace(**trainer, precision="bf16-mixed")
    inputs = batch["inputs"].to("cuda")
    batch = {name: on_fake_cuda(mode, it) if isinstance(it, Tensor) else it for name, it in batch.items()}
    with mode, half_on_cuda(), Recording(sends=True) as recording:
        loss = module.training_step({**batch, "inputs": inputs}, 1)
    assert loss.device.type == "cuda"
    assert loss.requires_grad
    assert len(recording.operations) > 100
    assert pinned
