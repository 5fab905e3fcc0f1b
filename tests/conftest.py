"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.browser import chromium

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# The models of tests are so small that threads slow them down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The same examples in every run; `--hypothesis-profile=default` draws others.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")
REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Runs named files in this process, because starting workers takes longer; anything else on all cores."""
    return 0 if all(Path(argument.split("::")[0]).is_file() for argument in config.args) else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded and real data next to the checkout, or the one in `ARES_SHARED`."""
    folder = Path(os.environ.get("ARES_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the recorded data in {folder} (set ARES_SHARED)")
    return folder


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    """A headless Chromium; skips where there is none."""
    try:
        with chromium() as browser:
            yield browser
    except (ImportError, FileNotFoundError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def t5_tokenizer(shared: Path):
    """The real T5 tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(shared / "t5_tokenizer")
