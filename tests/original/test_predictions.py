"""Files of predictions in the original's form."""

import json
from pathlib import Path

import pytest

from ares.original.predictions import read_published, write_published
from ares.types import AresError

PIDS = ["5", "2", "9"]


def test_predictions_are_written_and_read_in_split_order(tmp_path: Path) -> None:
    texts = {"2": "Solution: two.", "5": "", "9": "Solution: nine."}
    labels = {pid: f"Solution: gold {pid}." for pid in PIDS}
    path = write_published(
        tmp_path, "val", texts, labels, pids=PIDS, scores={"answer": {"acc_average": 1.0}}, failed=2
    )
    assert path.name == "predictions_ans_eval.json"
    assert json.loads(path.read_text()) == {
        "num_fail": 2,
        "scores": {"answer": {"acc_average": 1.0}},
        "preds": ["", "Solution: two.", "Solution: nine."],
        "labels": ["Solution: gold 5.", "Solution: gold 2.", "Solution: gold 9."],
    }
    assert list(read_published(tmp_path, "val", PIDS).items()) == [(pid, texts[pid]) for pid in PIDS]


def test_predictions_of_other_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AresError, match=r"predictions_ans_test\.json is missing"):
        read_published(tmp_path, "test", PIDS)
    (tmp_path / "predictions_ans_train.json").write_text('{"preds": ["a", "b"], "labels": []}')
    with pytest.raises(AresError, match="has 2 preds and the train split 3 problems"):
        read_published(tmp_path, "train", PIDS)
    for content in ('["a"]', '{"preds": [1, 2, 3]}'):
        (tmp_path / "predictions_ans_train.json").write_text(content)
        with pytest.raises(AresError, match='no list of texts under "preds"'):
            read_published(tmp_path, "train", PIDS)
    with pytest.raises(AresError, match="1 problems of the val split have no prediction"):
        write_published(tmp_path, "val", {"5": "", "2": ""}, {}, pids=PIDS)
