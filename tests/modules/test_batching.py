from dataclasses import replace
from types import SimpleNamespace

from ares.modules.batching import print_batches
from tests.support.ppo import RL, make_buffer, tiny_policy, train


def test_batch_table_lists_every_factor_of_a_step(capsys):
    data = SimpleNamespace(micro=8, accumulate=8, steps_per_epoch=4)
    print_batches("x", data, rows=1000, global_batch=256, world=4, epochs=5)
    head, body = (line.split("  ") for line in capsys.readouterr().out.splitlines()[1:])
    cells = dict(zip([n for n in head if n], [int(n) for n in body if n], strict=True))
    columns = {name.strip(): value for name, value in cells.items()}
    assert (
        columns["global batch"]
        == columns["devices"] * columns["micro batch"] * columns["accumulation"]
        == 256
    )
    assert columns["steps"] == 20


def test_printed_batch_table_matches_the_fit(tmp_path, capsys):
    policy = tiny_policy()
    buffer = make_buffer(policy)
    train(policy, buffer, tmp_path, replace(RL, micro_batch_size=4))
    numbers = capsys.readouterr().out.splitlines()[2].split()
    # rows, global batch, devices, micro batch, accumulation, steps per epoch, epochs, steps
    assert [int(n) for n in numbers] == [len(buffer), 8, 1, 4, 2, 2, 3, 6]
