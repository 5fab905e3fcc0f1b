"""What the manifest says about where a step ran."""

import os
import re
from pathlib import Path

from ares.pipeline import origin as module
from ares.pipeline.origin import _field, origin


def test_origin_has_command_commit_and_machine() -> None:
    found = origin()
    assert found["command"] == "python train.py"  # Hydra did not start this process
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", found.get("commit", "0" * 12))
    assert f"{os.cpu_count()} cores" in found["machine"]


def test_installed_package_has_no_commit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "a/b/c/origin.py"))
    assert module._commit.__wrapped__() == ""


def test_fields_of_system_files(tmp_path: Path) -> None:
    file = tmp_path / "information"
    file.write_text("Model: \t\t NVIDIA H100\nIRQ: 1\n")
    assert _field(file, "Model") == "NVIDIA H100"
    assert _field(file, "absent") == _field(tmp_path / "none", "Model") == ""
