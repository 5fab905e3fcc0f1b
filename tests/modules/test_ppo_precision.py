"""PPO in bfloat16: on the CPU, and on a GPU where there is one."""

import math
from dataclasses import replace

import pytest
import torch

from tests.support.ppo import RL, good_probability, make_buffer, train

DEVICES = [
    "cpu",
    pytest.param("gpu", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


@pytest.mark.parametrize("accelerator", DEVICES)
def test_bf16_mixed_learns_with_float32_weights(tmp_path, accelerator, tiny_policy):
    policy = tiny_policy().to("cuda" if accelerator == "gpu" else "cpu")
    buffer = make_buffer(tiny_policy(), questions=16)
    before = good_probability(tiny_policy(), buffer)
    rl = replace(RL, ppo_epochs=4, kl_coef=0.0)
    metrics = train(policy, buffer, tmp_path, rl, accelerator=accelerator, precision="bf16-mixed")
    assert all(math.isfinite(value) for value in metrics.values())
    # bfloat16 keeps 8 bits: the first ratio is near 1, not 1 to 1e-4.
    assert metrics["train/ratio_mean"] == pytest.approx(1, abs=0.3)
    assert policy.device.type == ("cuda" if accelerator == "gpu" else "cpu")
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}
    assert good_probability(policy.cpu(), buffer) > before + 0.02
