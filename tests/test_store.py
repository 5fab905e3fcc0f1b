"""Files are whole or absent, and read back as they were written."""

import pytest

from ares.store import (
    atomic_folder,
    atomic_path,
    hash_of,
    read_corrections,
    read_feedback,
    read_json,
    read_jsonl,
    read_rationales,
    read_rollouts,
    sha256_path,
    write_corrections,
    write_feedback,
    write_json,
    write_jsonl,
    write_rationales,
    write_rollouts,
)
from ares.types import AresError, Correction, Feedback, Rationale, Rollout, Span


class Killed(Exception):
    """What ends a write in its middle."""


def half_written(path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise Killed


def half_written_folder(path) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "x").write_text("2")
        raise Killed


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(Killed):
        half_written(target)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_folder_leaves_the_old_one(tmp_path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "x").write_text("1")
    with pytest.raises(Killed):
        half_written_folder(target)
    assert (target / "x").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_folder_replaces_the_old_one_whole(tmp_path) -> None:
    for name in ("a", "b"):
        with atomic_folder(tmp_path / "model") as folder:
            (folder / name).write_text(name)
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["b"]


def test_hash_of_a_folder_sees_names_and_contents_but_no_hidden_files(tmp_path) -> None:
    (tmp_path / "a").write_text("1")
    first = sha256_path(tmp_path)
    (tmp_path / ".lock").write_text("")
    assert sha256_path(tmp_path) == first
    (tmp_path / "a").write_text("2")
    second = sha256_path(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, sha256_path(tmp_path)}) == 3


def test_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert hash_of({"a": 1, "b": [1, 2]}) == hash_of({"b": [1, 2], "a": 1}) != hash_of({"a": 1, "b": [2, 1]})


def test_bad_json_names_file_and_line(tmp_path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1,\n oops}')
    with pytest.raises(AresError, match=r"x\.json.*line 2"):
        read_json(tmp_path / "x.json")
    write_json(tmp_path / "y.json", {"ä": 1})
    assert read_json(tmp_path / "y.json") == {"ä": 1}


def test_every_carrier_reads_back_as_written(tmp_path) -> None:
    rollout = Rollout(
        "1/0", "1", 0, "Ja. No.", (5, 6, 1), False, (Span(0, 3), Span(4, 7)), (0, 1), (-1.0,) * 3, (-2.0,) * 3
    )
    for number in (0, 1, 10, 2):
        write_rollouts(
            tmp_path / f"part-{number}.parquet", [Rollout(**{**vars(rollout), "row_id": f"{number}/0"})]
        )
    assert [r.row_id for r in read_rollouts(tmp_path)] == ["0/0", "1/0", "2/0", "10/0"]
    assert Rollout(**{**vars(read_rollouts(tmp_path)[1])}) == Rollout(**{**vars(rollout), "row_id": "1/0"})
    feedback = [
        Feedback("1/0", (0.5, 1.0), "ok", "", "abc"),
        Feedback("1/1", None, "quarantined", "two scores", "x"),
        Feedback("1/2", (), "empty"),
    ]
    write_feedback(tmp_path / "f.parquet", feedback, {"ares.hash": "h"})
    assert read_feedback(tmp_path / "f.parquet") == feedback
    rationales = [Rationale("1", "Text.", (3, 1), False), Rationale("2", "", (), True)]
    write_rationales(tmp_path / "r.parquet", rationales)
    assert read_rationales(tmp_path / "r.parquet") == rationales
    corrections = [
        Correction("1", "a", "a", "b", "ok"),
        Correction("2", "a", "a", None, "quarantined", "refused", "h"),
    ]
    write_corrections(tmp_path / "c.parquet", corrections)
    assert read_corrections(tmp_path / "c.parquet") == corrections


def test_lines_end_at_newlines_alone(tmp_path) -> None:
    rows = [{"text": "a\u2028b\u2029c\u0085d\re"}, {"text": "f"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
