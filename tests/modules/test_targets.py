"""The value model's values of all rows of a buffer."""

import pytorch_lightning as pl
import torch

from ares.datamodules.rollouts import RolloutData
from ares.modules.targets import buffer_values
from tests.support.ppo import QUIET, make_buffer, new_value


@torch.no_grad()
def test_values_of_a_buffer_are_those_of_each_row_alone(tiny_policy) -> None:
    policy = tiny_policy()
    buffer, value = make_buffer(policy), new_value(policy)
    torch.nn.init.normal_(value.head[-1].weight, generator=torch.Generator().manual_seed(0))
    data = RolloutData(buffer, global_batch=len(buffer), micro=1, world=1, seed=0)
    found = buffer_values(value, data, pl.Trainer(**QUIET))
    assert len(set(buffer.lengths)) > 1
    for row in range(len(buffer)):
        batch = buffer.batch([row])
        [alone] = value.values(batch["inputs"], batch["response_ids"], batch["lengths"])
        assert alone.abs().min() > 0
        torch.testing.assert_close(found[buffer.tokens(row)], alone, atol=1e-5, rtol=1e-5)
