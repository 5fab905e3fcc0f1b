"""Inputs that were once read wrongly, with the right answers: `cases/readers.json` in the shared data."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ares.teachers.parsing import FeedbackError, parse_correction, parse_grouped_scores
from ares.text.sentences import sentences_of

_FOLDER = Path(os.environ.get("ARES_SHARED", Path(__file__).resolve().parents[2] / "shared"))
_FILE = _FOLDER / "cases" / "readers.json"
CASES: dict[str, list[Any]] = json.loads(_FILE.read_text("utf-8")) if _FILE.is_file() else {}


def cases(kind: str) -> list[Any]:
    missing = pytest.param(*[None] * 3, marks=pytest.mark.skip(reason=f"needs {_FILE}"))
    return [(*case, None)[:3] for case in CASES[kind]] if CASES else [missing]


@pytest.mark.parametrize(("text", "expected", "_"), cases("sentences"))
def test_sentences(text: str, expected: list[str], _: None) -> None:
    assert sentences_of(text) == expected


@pytest.mark.parametrize(("text", "expected", "_"), cases("corrections"))
def test_corrections(text: str, expected: str | None, _: None) -> None:
    if expected is None:
        with pytest.raises(FeedbackError):
            parse_correction(text)
    else:
        assert parse_correction(text) == expected


@pytest.mark.parametrize(("text", "counts", "expected"), cases("grouped_scores"))
def test_grouped_scores(text: str, counts: list[int], expected: list[list[float]]) -> None:
    assert parse_grouped_scores(text, counts) == expected
