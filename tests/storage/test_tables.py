"""Every table reads back as the carriers that were written, in their order."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from ares.storage import tables
from ares.storage.pairs import read_pairs, write_pairs
from ares.types import (
    AresError,
    Correction,
    Feedback,
    Pair,
    Prediction,
    Rationale,
    Rollout,
    Side,
    Span,
    Verdict,
)

ROLLOUT = Rollout(
    "1/0", "1", 0, "Ja. No.", (5, 6, 1), False, (Span(0, 3), Span(4, 7)), (0, 1), (-1.0,) * 3, (-2.0,) * 3
)
ROWS = {
    "feedback": [
        Feedback("1/0", (0.5, 1.0), "ok", "", "abc"),
        Feedback("1/1", None, "quarantined", "two scores", "x"),
        Feedback("1/2", (), "empty"),
    ],
    "rationales": [Rationale("1", "Text.", (3, 1), False), Rationale("2", "", (), True)],
    "corrections": [
        Correction("1", "a", "a", "b", "ok"),
        Correction("2", "a", "a", None, "quarantined", "refused", "h"),
    ],
    "verdicts": [
        Verdict("1", "a", "a", "a", ("h1", "h2")),
        Verdict("2", None, "quarantined", "b", ()),
    ],
    "predictions": [
        Prediction("1", "Why.", "The answer is (A).", 0, True),
        Prediction("2", "", "line\u2028separator", None, False),
    ],
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_read_back_as_written(name, tmp_path) -> None:
    getattr(tables, f"write_{name}")(tmp_path / "rows", ROWS[name])
    assert getattr(tables, f"read_{name}")(tmp_path / "rows") == ROWS[name]


def test_rollouts_read_back_in_part_order(tmp_path) -> None:
    for number in (0, 1, 10, 2):
        tables.write_rollouts(tmp_path / f"part-{number}.parquet", [replace(ROLLOUT, row_id=f"{number}/0")])
    assert tables.read_rollouts(tmp_path) == [replace(ROLLOUT, row_id=f"{n}/0") for n in (0, 1, 2, 10)]


def test_table_has_metadata(tmp_path) -> None:
    path = tmp_path / "feedback.parquet"
    tables.write_feedback(path, ROWS["feedback"], {"ares.hash": "h"})
    assert pq.read_schema(path).metadata[b"ares.hash"] == b"h"


def test_pairs_read_back_as_written(tmp_path) -> None:
    spans = (Span(0, 3), Span(4, 7))
    scored = Side("Ja. No.", (5, 6, 1), spans, (0, 1), (1.0, 0.25), (-1.0, -2.0, -0.5))
    bare = Side("Ja.", (5, 1), spans[:1], (0,))
    rows = [Pair("1/0-1", "1", "best_worst", scored, bare), Pair("2", "2", "brought", bare, scored)]
    write_pairs(tmp_path / "pairs.parquet", rows, {"ares.hash": "h"})
    assert read_pairs(tmp_path / "pairs.parquet") == rows
    tables.write_feedback(tmp_path / "feedback.parquet", ROWS["feedback"])
    with pytest.raises(AresError, match="not the table"):
        read_pairs(tmp_path / "feedback.parquet")
