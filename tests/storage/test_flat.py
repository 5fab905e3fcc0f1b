"""Rollouts as columns: equal to the rows, and mapped from files."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from ares.storage.flat import flat_rollouts, read_flat_rollouts
from ares.storage.tables import write_rollouts
from ares.types import AresError, Rollout, Span

ROW = Rollout(
    "1/0", "1", 0, "Ja. No.", (5, 6, 1), False, (Span(0, 3), Span(4, 7)), (0, 1), (-1.0,) * 3, (-2.0,) * 3
)
OTHER = replace(
    ROW,
    row_id="2/0",
    pid="2",
    token_ids=(7, 1),
    truncated=True,
    spans=(),
    token_ends=(),
    logprobs=(-3.0, -4.0),
    ref_logprobs=(-5.0, -6.0),
    sampler_logprobs=(-7.0, -8.0),
    repetition=0.5,
)


def test_columns_have_the_tokens_of_all_parts(tmp_path) -> None:
    write_rollouts(tmp_path / "rollouts/part-0.parquet", [ROW])
    write_rollouts(tmp_path / "rollouts/part-1.parquet", [OTHER, ROW])
    found = read_flat_rollouts(tmp_path / "rollouts", tmp_path / "scratch")
    assert isinstance(found.token_ids, np.memmap)
    assert not list((tmp_path / "scratch").iterdir())
    for flat in (found, flat_rollouts([ROW, OTHER, ROW])):
        assert flat.row_ids == ["1/0", "2/0", "1/0"]
        assert (flat.pids, flat.truncated, flat.repetition) == (
            ["1", "2", "1"],
            [False, True, False],
            [0, 0.5, 0],
        )
        assert flat.offsets.tolist() == [0, 3, 5, 8]
        assert flat.token_ids.tolist() == [5, 6, 1, 7, 1, 5, 6, 1]
        assert flat.logprobs.tolist() == [-1, -1, -1, -3, -4, -1, -1, -1]
        assert flat.ref_logprobs.tolist() == [-2, -2, -2, -5, -6, -2, -2, -2]
        assert flat.sampler_logprobs.tolist() == [-1, -1, -1, -7, -8, -1, -1, -1]
        assert [flat.ends(row) for row in range(3)] == [[0, 1], [], [0, 1]]


def test_rollouts_without_a_column_are_refused(tmp_path) -> None:
    path = tmp_path / "part-0.parquet"
    write_rollouts(path, [ROW])
    pq.write_table(pq.ParquetFile(path).read().drop_columns("repetition"), path)
    with pytest.raises(AresError, match="no column repetition"):
        read_flat_rollouts(tmp_path, tmp_path)
