"""What the manifest says of a step's outputs, and how a change to one is noticed."""

import os
from pathlib import Path

import pytest

from ares.pipeline.manifest import (
    drop_entry,
    is_unaltered,
    is_whole,
    output_of,
    read_manifest,
    recorded,
    stamp_of,
    write_entry,
)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/weights").write_text("abc")
    return tmp_path / "policy"


def rewrite(file: Path, text: str, *, seconds: int = 0) -> None:
    """Writes a file whose time differs from the old one's by so many seconds."""
    time = file.stat().st_mtime_ns + seconds * 10**9
    file.write_text(text)
    os.utime(file, ns=(time, time))


def test_entries_are_added_replaced_and_dropped(tmp_path: Path) -> None:
    for key, seconds in (("a", 1), ("b", 2), ("a", 3)):
        write_entry(tmp_path, key, {"seconds": seconds})
    assert read_manifest(tmp_path) == {
        "run": tmp_path.name,
        "steps": {"a": {"seconds": 3}, "b": {"seconds": 2}},
    }
    drop_entry(tmp_path, "a")
    drop_entry(tmp_path, "never there")
    assert read_manifest(tmp_path)["steps"] == {"b": {"seconds": 2}}


def test_a_stamp_tells_size_time_and_names_but_no_hidden_files(output: Path) -> None:
    stamps = [stamp_of(output)]
    rewrite(output / "weights", "longer")
    stamps.append(stamp_of(output))
    rewrite(output / "weights", "longer", seconds=5)
    stamps.append(stamp_of(output))
    (output / "weights").rename(output / "renamed")
    stamps.append(stamp_of(output))
    assert len(set(stamps)) == 4
    (output / ".lock").write_text("")
    assert stamp_of(output) == stamps[-1]


def test_an_output_is_unaltered_while_its_contents_are(output: Path) -> None:
    kept = output_of(output, output.parent)
    assert kept["path"] == "policy"
    rewrite(output / "weights", "abc", seconds=5)
    assert is_unaltered(output.parent, kept)  # copied or touched
    rewrite(output / "weights", "abd", seconds=5)
    assert not is_unaltered(output.parent, kept)


def test_contents_are_not_read_while_the_stamp_is_the_same(output: Path) -> None:
    kept = {**output_of(output, output.parent), "sha256": "of something else"}
    assert is_unaltered(output.parent, kept)
    assert not is_unaltered(output.parent, {**kept, "stamp": "another"})


def test_a_step_is_whole_while_all_its_outputs_are_there(output: Path) -> None:
    entry = {"outputs": {"policy": {"path": "policy"}, "value": {"path": "value"}}}
    assert not is_whole(output.parent, entry)
    (output.parent / "value").mkdir()
    assert is_whole(output.parent, entry)


def test_paths_are_relative_inside_the_run_alone(tmp_path: Path) -> None:
    assert recorded(tmp_path / "a/b", tmp_path) == "a/b"
    assert recorded(tmp_path / "b", tmp_path / "a") == str(tmp_path / "b")
