"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Models of tests are so small that threads cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded and real data beside the checkout; `ARES_SHARED` names another place."""
    folder = Path(os.environ.get("ARES_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the recorded data in {folder} (set ARES_SHARED)")
    return folder


@pytest.fixture(scope="session")
def t5_tokenizer(shared: Path):
    """The real T5 tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(shared / "t5_tokenizer")
