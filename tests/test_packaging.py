"""What is built from the checkout: the site of the documentation, the files of the image."""

import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_documentation_becomes_a_site_with_a_page_per_module(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs mkdocs-material")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        build,
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    pages = {path.parent.name for path in tmp_path.glob("*/index.html")}
    assert {path.stem for path in (REPOSITORY / "docs").glob("*.md")} - {"index"} <= pages
    reference = (tmp_path / "reference/ares/rl/advantages/index.html").read_text()
    assert "Generalized advantage estimation" in re.sub("<[^>]+>", "", reference)


def test_the_image_gets_every_file_that_it_copies() -> None:
    copies = re.findall(r"^COPY (.+) \S+$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    sources = [source for line in copies for source in line.split()]
    sent = re.findall(r"^!(.+)$", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE)
    assert sources
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in sent), source
    project = (REPOSITORY / "pyproject.toml").read_text()
    for name in re.findall(r'^(?:readme|conf) = "([^"]+)"', project, re.MULTILINE):
        assert name in sources or name == "ares/conf", name
