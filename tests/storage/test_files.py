"""Files are complete or absent, and read back as written."""

import re

import pytest

from ares.storage.files import (
    atomic_folder,
    atomic_path,
    hash_of,
    read_json,
    read_jsonl,
    read_object,
    remove_leftovers,
    sampled_sha256,
    sha256_path,
    write_json,
    write_jsonl,
)
from ares.types import AresError


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


def test_failed_write_leaves_only_the_old_file(tmp_path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(Killed):
        half_written(target)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_written_files_are_readable_by_others(tmp_path) -> None:
    with atomic_path(tmp_path / "a.txt") as file:
        file.write_text("1")
    with atomic_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o755


def test_failed_folder_write_leaves_the_old_folder(tmp_path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "x").write_text("1")
    with pytest.raises(Killed):
        half_written_folder(target)
    assert (target / "x").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_new_folder_replaces_all_of_the_old_one(tmp_path) -> None:
    for name in ("a", "b"):
        with atomic_folder(tmp_path / "model") as folder:
            (folder / name).write_text(name)
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["b"]


def test_hash_of_folder_covers_names_and_contents_of_visible_files(tmp_path) -> None:
    (tmp_path / "a").write_text("1")
    first = sha256_path(tmp_path)
    (tmp_path / ".lock").write_text("")
    assert sha256_path(tmp_path) == first
    (tmp_path / "a").write_text("2")
    second = sha256_path(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, sha256_path(tmp_path)}) == 3


def test_missing_path_has_no_hash(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_path(tmp_path / "absent")


def test_hash_does_not_depend_on_key_order() -> None:
    assert hash_of({"a": 1, "b": [1, 2]}) == hash_of({"b": [1, 2], "a": 1}) != hash_of({"a": 1, "b": [2, 1]})


def test_bad_json_names_file_and_line(tmp_path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1,\n oops}')
    with pytest.raises(AresError, match=r"x\.json.*line 2"):
        read_json(tmp_path / "x.json")
    (tmp_path / "z.json").write_bytes(b'{"a": "\xe4"}')
    with pytest.raises(AresError, match=r"z\.json is not UTF-8 \(byte 7\)"):
        read_json(tmp_path / "z.json")
    write_json(tmp_path / "y.json", {"ä": 1})
    assert read_json(tmp_path / "y.json") == {"ä": 1}


def test_jsonl_lines_end_only_at_newlines(tmp_path) -> None:
    rows = [{"text": "a\u2028b\u2029c\u0085d\re"}, {"text": "f"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ('{"a": NaN}', "holds NaN, which is no JSON number"),
        ("[-Infinity]", "holds -Infinity"),
        ('[{"a": 1, "a": 2}]', "has the key 'a' twice"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "too many digits"),
        ("{", "is not valid JSON (line 1"),
    ],
)
def test_json_is_strict(tmp_path, text: str, clause: str) -> None:
    for name, read in (("a.json", read_json), ("a.jsonl", read_jsonl)):
        (tmp_path / name).write_text(text)
        with pytest.raises(AresError, match=re.escape(clause)) as caught:
            read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_not_written(tmp_path, number: float) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    for write, value in ((write_json, {"a": number}), (write_jsonl, [{"a": number}])):
        with pytest.raises(AresError, match=r"a\.json cannot be written: a number in it is NaN or infinite"):
            write(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["[]", "null", "1"])
def test_other_json_is_no_object(tmp_path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(AresError, match="does not hold a JSON object"):
        read_object(tmp_path / "a.json")


def test_sampled_hash_knows_sizes_and_blocks(tmp_path):
    data = bytearray(8 << 20)
    found = set()
    for change in (None, 0, 4 << 20, (8 << 20) - (8 << 20) // 32):  # bytes that are looked at
        file = tmp_path / "weights"
        file.write_bytes(data if change is None else data[:change] + b"x" + data[change + 1 :])
        assert sampled_sha256(file) == sampled_sha256(file)
        found.add(sampled_sha256(file))
    (tmp_path / "weights").write_bytes(data + b"x")
    assert len(found | {sampled_sha256(tmp_path / "weights")}) == 5


def test_leftovers_of_killed_processes_are_removed(tmp_path) -> None:
    (tmp_path / "round-1/policy").mkdir(parents=True)
    (tmp_path / "round-1/policy/model.tmp").touch()
    (tmp_path / ".b.json.123.tmp").write_text("{")
    (tmp_path / "round-1/.policy.456.tmp").mkdir()
    (tmp_path / "round-1/.policy.456.tmp/model.safetensors").touch()
    remove_leftovers(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"round-1", "round-1/policy", "round-1/policy/model.tmp"}
