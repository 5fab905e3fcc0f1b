"""The manifest: its entries, and how a change to an output is noticed."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ares.pipeline.manifest import (
    FORMAT,
    Artefact,
    StepEntry,
    artefact_at,
    drop_entry,
    is_complete,
    is_unaltered,
    read_entry,
    read_manifest,
    stamp_of,
    write_entry,
)
from ares.storage.files import write_json
from ares.types import AresError


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


def entry(**outputs: Artefact) -> StepEntry:
    return StepEntry("abc", {"seed": 1}, {"data": Artefact("/data", "d")}, outputs, metrics={"loss": 0.5})


def test_entries_are_added_replaced_and_dropped(tmp_path: Path) -> None:
    first = entry(policy=Artefact("policy", "p", "stamp"))
    for key, seconds in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        write_entry(tmp_path, key, replace(first, seconds=seconds))
    assert read_manifest(tmp_path) == {"a": replace(first, seconds=3.0), "b": replace(first, seconds=2.0)}
    drop_entry(tmp_path, "a")
    drop_entry(tmp_path, "never there")
    assert list(read_manifest(tmp_path)) == ["b"]


@pytest.mark.parametrize(
    "manifest",
    [
        {"run": "a", "steps": {"a": {"hash": "0", "seconds": 1.0}}},
        {"run": "a", "steps": {}},
        {"format": FORMAT, "steps": {"a": {"hash": "0", "a later field": 1}}},
        {"format": FORMAT + 1, "steps": {}},
        [],
    ],
)
def test_manifest_of_another_version_is_refused(tmp_path: Path, manifest: object) -> None:
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(AresError, match=r"manifest\.json was made by another version"):
        read_manifest(tmp_path)


def test_stamp_depends_on_size_time_and_name_of_visible_files(output: Path) -> None:
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


def test_touched_output_is_unaltered(output: Path) -> None:
    kept = artefact_at(output, output.parent)
    assert kept.path == "policy"
    rewrite(output / "weights", "abc", seconds=5)
    assert is_unaltered(output.parent, kept)  # copied or touched
    rewrite(output / "weights", "abd", seconds=5)
    assert not is_unaltered(output.parent, kept)


def test_contents_are_not_read_while_the_stamp_is_the_same(output: Path) -> None:
    kept = replace(artefact_at(output, output.parent), sha256="of something else")
    assert is_unaltered(output.parent, kept)
    assert not is_unaltered(output.parent, replace(kept, stamp="another"))


def test_step_is_complete_while_all_outputs_exist(output: Path) -> None:
    made = entry(policy=Artefact("policy", "p"), value=Artefact("value", "v"))
    assert not is_complete(output.parent, made)
    (output.parent / "value").mkdir()
    assert is_complete(output.parent, made)


def test_paths_are_relative_only_inside_the_run(output: Path, tmp_path: Path) -> None:
    assert artefact_at(output, tmp_path).path == "policy"
    assert artefact_at(output, tmp_path / "other").path == str(output)


@pytest.mark.parametrize(
    "text", ["[]", "{}", "null", '{"format": 2, "steps": []}', '{"format": 2, "steps": {"a": null}}']
)
def test_file_that_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(AresError, match=r"manifest\.json was made by another version"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"inputs": [], "outputs": {}}'])
def test_shared_entry_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "entry.json").write_text(text)
    with pytest.raises(AresError, match=r"entry\.json"):
        read_entry(tmp_path / "entry.json")
