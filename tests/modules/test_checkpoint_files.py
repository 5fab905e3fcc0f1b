"""Checkpoints that are complete or absent, and the one that a fit resumes from."""

import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ares.modules.checkpoint_files import BEST, LAST, AtomicCheckpointIO, checkpoint_to_resume, previous
from ares.types import AresError


def written(folder: Path, *numbers: int, name: str = LAST) -> Path:
    """Writes checkpoints that hold a number and a tensor of 40 kB, each in place of the one before."""
    path = folder / name
    for number in numbers:
        state = {"number": number, "state_dict": {"weight": torch.full((10_000,), float(number))}}
        AtomicCheckpointIO().save_checkpoint(state, path)
    return path


def number_in(path: Path) -> int:
    return torch.load(path, weights_only=True)["number"]


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace(file: Path) -> None:
    file.write_text("not a checkpoint")


def flip(position: float) -> Callable[[Path], None]:
    """Damages one bit, at a fraction of the file."""

    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[int(position * len(content))] ^= 0x10
        file.write_bytes(content)

    return damage


DAMAGES = [halve, empty, replace, flip(0.3), flip(0.6), flip(0.999)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_unreadable_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage, capsys) -> None:
    last = written(tmp_path, 1, 2, 3)
    damage(last)
    assert checkpoint_to_resume(tmp_path) == last
    assert number_in(last) == 2
    [warning] = capsys.readouterr().err.splitlines()
    assert "continues from the checkpoint before it" in warning
    # The next checkpoint keeps the one that was resumed from.
    written(tmp_path, 4)
    assert (number_in(last), number_in(previous(last))) == (4, 2)


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_readable_checkpoint_the_fit_starts_afresh(tmp_path: Path, damage, capsys) -> None:
    last = written(tmp_path, 1, 2)
    damage(last)
    damage(previous(last))
    assert checkpoint_to_resume(tmp_path) is None
    [warning] = capsys.readouterr().err.splitlines()
    assert "starts from its beginning" in warning
    assert not list(tmp_path.iterdir())


def test_unreadable_best_weights_start_the_fit_afresh(tmp_path: Path, capsys) -> None:
    written(tmp_path, 1, 2)
    halve(written(tmp_path, 1, name=BEST))
    assert checkpoint_to_resume(tmp_path) is None
    assert "starts from its beginning" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_kill_between_the_two_renames_loses_nothing(tmp_path: Path, capsys) -> None:
    last = written(tmp_path, 1)
    last.replace(previous(last))
    assert checkpoint_to_resume(tmp_path) == last
    assert number_in(last) == 1
    assert capsys.readouterr().err == ""


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    last = written(tmp_path, 1)
    (tmp_path / ".last.ckpt.abc.tmp").write_bytes(b"half a checkpoint")
    assert checkpoint_to_resume(tmp_path) == last
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
    assert checkpoint_to_resume(tmp_path / "absent") is None


def test_checkpoint_is_staged_next_to_its_target(tmp_path: Path, monkeypatch) -> None:
    """Another file system, such as that of TMPDIR, would make the last move a copy."""
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    seen = []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *a, **k: (seen.extend(tmp_path.iterdir()), save(*a, **k)))
    written(tmp_path, 1)
    assert [path.name.startswith(".last.ckpt.") for path in seen] == [True]


def test_checkpoint_that_cannot_be_read_back_replaces_nothing(tmp_path: Path, monkeypatch) -> None:
    last = written(tmp_path, 1)
    save = torch.save

    def lossy(state, file):
        save(state, file)
        file.truncate(20_000)

    monkeypatch.setattr(torch, "save", lossy)
    with pytest.raises(AresError, match="could not be read back"):
        written(tmp_path, 2)
    assert number_in(last) == 1
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_full_disk_is_reported_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    last = written(tmp_path, 1)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(AresError, match=r"last\.ckpt cannot be written \(File too large\)"):
            written(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert number_in(last) == 1
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
