"""Data sets of one's own, from JSONL and parquet, and the messages about their mistakes."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ares.data.custom import read_custom
from ares.types import AresError, Problem

FULL = {
    "pid": "a",
    "question": "Which?",
    "choices": ["x", "y"],
    "answer": 1,
    "split": "train",
    "hint": "Look.",
    "caption": "A cube.",
    "lecture": "L.",
    "solution": "S.",
    "image": "pictures/a.png",
    "subject": "natural science",
    "topic": "t",
    "category": "c",
    "skill": "s",
    "grade": "grade3",
    "task": "closed choice",
    "rationales": ["S.", "T."],
    "direct_answers": ["y"],
    "difficult": True,
}
LEAST = {"pid": "b", "question": "What?", "choices": ["x"], "split": "test"}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_every_field_of_problem(tmp_path: Path) -> None:
    problems, splits = read_custom(write(tmp_path / "problems.jsonl", FULL, "", LEAST))
    assert splits == {"train": ["a"], "val": [], "test": ["b"]}
    assert problems["a"] == Problem(
        **{
            **FULL,
            "choices": ("x", "y"),
            "image": tmp_path / "pictures/a.png",
            "rationales": ("S.", "T."),
            "direct_answers": ("y",),
        }
    )
    least = problems["b"]
    assert (least.answer, least.image, least.caption, least.solution, least.difficult) == (
        None,
        None,
        "",
        "",
        False,
    )


def test_parquet_and_jsonl_give_the_same_problems(tmp_path: Path) -> None:
    jsonl = write(tmp_path / "problems.jsonl", FULL, LEAST)
    (tmp_path / "other").mkdir()
    pq.write_table(pa.Table.from_pylist([FULL, {**dict.fromkeys(FULL), **LEAST}]), tmp_path / "mine.parquet")
    assert read_custom(tmp_path / "mine.parquet") == read_custom(jsonl)
    wrong = tmp_path / "wrong.parquet"
    pq.write_table(pa.Table.from_pylist([LEAST, {**LEAST, "pid": "c", "split": "dev"}]), wrong)
    with pytest.raises(AresError, match=r"wrong\.parquet: row 2, field \"split\""):
        read_custom(wrong)
    # A folder stands for the file in it.
    assert read_custom(tmp_path) == read_custom(jsonl)


def test_captions_next_to_the_file_or_in_another(tmp_path: Path) -> None:
    path = write(tmp_path / "problems.jsonl", FULL, LEAST)
    (tmp_path / "captions.json").write_text(json.dumps({"captions": {"a": "No.", "b": "A ball."}}))
    assert [p.caption for p in read_custom(path)[0].values()] == ["A cube.", "A ball."]
    (tmp_path / "named.json").write_text(json.dumps({"b": ["A", "cat."]}))
    assert read_custom(path, tmp_path / "named.json")[0]["b"].caption == "A cat."


def test_all_mistakes_are_reported_with_row_numbers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "problems.jsonl",
        FULL,
        {**LEAST, "pid": "2", "choices": "x"},
        {**LEAST, "pid": "3", "answr": 0, "split": "dev"},
        {**LEAST, "pid": "4", "answer": 1},
        [1],
        {"pid": "c/d", "question": "?", "choices": ["x"], "split": "val"},
        {**LEAST, "pid": "7", "caption": "\ud83d"},
    )
    with pytest.raises(AresError) as error:
        read_custom(path)
    lines = str(error.value).splitlines()
    assert [line.split(", ")[0].rsplit(" ", 1)[1] for line in lines] == ["2", "3", "3", "4", "5", "6", "7"]
    parts = (
        "choices",
        "is unknown. Did you mean 'answer'? The fields are",
        "'dev'",
        "out of range",
        "must be an object",
        "slash",
        "half a character",
    )
    for part, line in zip(parts, lines, strict=True):
        assert part in line


def test_repeated_pids_and_torn_lines(tmp_path: Path) -> None:
    with pytest.raises(AresError, match="row 2, pid a is that of row 1"):
        read_custom(write(tmp_path / "problems.jsonl", FULL, FULL))
    with pytest.raises(AresError, match="row 2, it is not valid JSON"):
        read_custom(write(tmp_path / "problems.jsonl", FULL, '{"pid"'))
    many = write(tmp_path / "problems.jsonl", *[{**LEAST, "pid": str(n), "split": "dev"} for n in range(30)])
    with pytest.raises(AresError) as error:
        read_custom(many)
    assert str(error.value).splitlines()[-1].endswith("20 more mistakes.")


def test_torn_lines_and_repeated_pids_are_reported_with_the_other_mistakes(tmp_path: Path) -> None:
    path = write(tmp_path / "problems.jsonl", FULL, '{"pid"', {**LEAST, "split": "dev"}, FULL)
    with path.open("ab") as file:
        file.write(b'{"pid": "\xe9"}\n')
    with pytest.raises(AresError) as error:
        read_custom(path)
    lines = [line.removeprefix(f"{path}: ") for line in str(error.value).splitlines()]
    for start, line in zip(
        (
            "row 2, it is not valid JSON",
            "row 3, field \"split\" is 'dev'",
            "row 4, pid a is that of row 1",
            "row 5, it is not UTF-8",
        ),
        lines,
        strict=True,
    ):
        assert line.startswith(start)


@pytest.mark.parametrize("root", [None, "/nowhere/x.jsonl"])
def test_no_such_file(root: str | None) -> None:
    with pytest.raises(AresError, match=r"neither a \.jsonl or \.parquet file nor a folder"):
        read_custom(root)


def test_files_that_hold_no_problems(tmp_path: Path) -> None:
    latin = tmp_path / "problems.jsonl"
    latin.write_bytes(json.dumps(LEAST).encode() + b'\n{"pid": "\xe9"}\n')
    with pytest.raises(AresError, match="row 2, it is not UTF-8"):
        read_custom(latin)
    latin.write_text("\n")
    with pytest.raises(AresError, match="holds no problems"):
        read_custom(latin)
    table = tmp_path / "mine.parquet"
    pq.write_table(pa.Table.from_pylist([FULL]), table)
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(AresError, match=r"mine\.parquet is not a readable parquet file"):
        read_custom(table)


@pytest.mark.parametrize("withheld", [None, float("nan")])
def test_withheld_answers_in_a_column_of_floats(tmp_path: Path, withheld: float | None) -> None:
    answers = pa.array([1.0, withheld], pa.float64())
    rows = [{**LEAST, "pid": pid, "choices": ["x", "y"]} for pid in "ab"]
    pq.write_table(pa.Table.from_pylist(rows).append_column("answer", answers), tmp_path / "mine.parquet")
    found = [problem.answer for problem in read_custom(tmp_path / "mine.parquet")[0].values()]
    assert found == [1, None]
    assert isinstance(found[0], int)
    half = write(tmp_path / "half.jsonl", {**rows[0], "answer": 0.5})
    with pytest.raises(AresError, match='field "answer" is a number; make it the index'):
        read_custom(half)


def test_file_with_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    path = write(tmp_path / "problems.jsonl", FULL, LEAST)
    expected = read_custom(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_custom(path) == expected


@pytest.mark.parametrize(
    ("line", "clause"),
    [
        ('{"pid": "1", "pid": "2"}', "field 'pid' is there twice"),
        ("[" * 100_000, "it cannot be read"),
        ('{"pid": ' + "9" * 5000 + "}", "it cannot be read (Exceeds the limit"),
    ],
)
def test_lines_that_python_cannot_read_are_mistakes(tmp_path: Path, line: str, clause: str) -> None:
    (tmp_path / "problems.jsonl").write_text(line)
    with pytest.raises(AresError, match=re.escape(clause)) as caught:
        read_custom(tmp_path)
    assert "row 1" in str(caught.value)
    assert len(str(caught.value)) < 300
