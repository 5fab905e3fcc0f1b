"""PPO in bfloat16: on the processor, and on a GPU where there is one."""

import math
from dataclasses import replace

import pytest
import torch

from ares.models.t5.loading import value_from_policy
from ares.modules.ppo import run_ppo
from tests.modules.test_ppo import QUIET, RL, good_share, make_buffer, tiny_policy

DEVICES = [
    "cpu",
    pytest.param("gpu", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


@pytest.mark.parametrize("accelerator", DEVICES)
def test_bf16_mixed_learns_with_float32_weights(tmp_path, accelerator):
    policy = tiny_policy().to("cuda" if accelerator == "gpu" else "cpu")
    buffer = make_buffer(tiny_policy(), questions=16)
    start = good_share(tiny_policy(), buffer)
    figures = run_ppo(
        policy,
        value_from_policy(policy),
        buffer,
        replace(RL, ppo_epochs=4, kl_coef=0.0),
        seed=0,
        features=None,
        checkpoints=tmp_path,
        trainer_arguments={
            **QUIET,
            "accelerator": accelerator,
            "precision": "bf16-mixed",
            "default_root_dir": tmp_path,
        },
    )
    assert all(math.isfinite(figure) for figure in figures.values())
    # bfloat16 keeps 8 bits: the first ratio is near 1, not 1 to 1e-4.
    assert figures["train/ratio_mean"] == pytest.approx(1, abs=0.3)
    assert policy.device.type == ("cuda" if accelerator == "gpu" else "cpu")
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}
    assert good_share(policy.cpu(), buffer) > start + 0.02
