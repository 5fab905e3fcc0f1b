"""Readers and parsers on arbitrary input: they understand it, or raise the one error that their callers expect."""

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ares.config.command_line import mistakes_in
from ares.data.aokvqa import read_aokvqa
from ares.data.captions import read_captions
from ares.data.custom import read_custom
from ares.data.scienceqa import read_scienceqa
from ares.evaluation.answers import extract_answer
from ares.pipeline.manifest import read_manifest
from ares.storage.files import read_json, read_jsonl
from ares.storage.tables import read_feedback, read_predictions, read_rollouts
from ares.teachers.parsing import (
    FeedbackError,
    parse_correction,
    parse_grouped_scores,
    parse_scores,
    parse_verdict,
)
from ares.text.sentences import remove_repeated_sentences, sentence_spans, split_sentences
from ares.text.tokenizers import train_tokenizer
from ares.types import AresError
from ares.vision.features import FeatureStore

fuzzed = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
few = settings(fuzzed, max_examples=15)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def near(valid: Any) -> st.SearchStrategy[bytes]:
    """Bytes like those of valid JSON: cut, with a piece replaced, with values exchanged, or anything else."""
    text = json.dumps(valid).encode()
    place = st.integers(0, len(text))
    cut = place.map(lambda at: text[:at])
    spliced = st.tuples(place, place, st.binary(max_size=6)).map(
        lambda parts: text[: min(parts[:2])] + parts[2] + text[max(parts[:2]) :]
    )
    return st.one_of(
        cut, spliced, exchanged(valid).map(_dumped), json_values.map(_dumped), st.binary(max_size=40)
    )


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def exchanged(draw: st.DrawFn, valid: Any) -> Any:
    """A JSON value with one part of it, at any depth, replaced by another value or removed."""
    if isinstance(valid, dict) and valid and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(valid)))
        rest = {name: value for name, value in valid.items() if name != key}
        return rest if draw(st.booleans()) else {**rest, key: draw(exchanged(valid[key]))}
    if isinstance(valid, list) and valid and draw(st.booleans()):
        at = draw(st.integers(0, len(valid) - 1))
        return [*valid[:at], draw(exchanged(valid[at])), *valid[at + 1 :]]
    return draw(json_values)


TEXTS = dict.fromkeys(
    ("hint", "task", "grade", "subject", "topic", "category", "skill", "lecture", "solution"), "text"
)
PROBLEM = {**TEXTS, "question": "Which?", "choices": ["x", "y"], "answer": 1, "image": None}
ROW = {
    "pid": "a",
    "question": "Which?",
    "choices": ["x", "y"],
    "answer": 1,
    "split": "train",
    "images": ["a"],
}
OFFICIAL = {"question_id": "q", "image_id": 1, "question": "Which?", "choices": ["x"], "correct_choice_idx": 0, "rationales": ["So."]}  # fmt: skip
ENTRY = {"hash": "h", "settings": {}, "inputs": {}, "outputs": {"policy": {"path": "p", "sha256": "s"}}}
INDEX = {"sha256": "s", "rows": {"1": 0}, "shape": [2, 3], "repeat": 1, "encoder": {}, "features_sha256": "f"}
PREDICTION = {"pid": "1", "rationale": "r", "output": "o", "answer": 1, "correct": True}


def _in_folder(reader: Callable[[Path], Any], **others: Any) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        for name, content in others.items():
            path.with_name(f"{name}.json").write_text(json.dumps(content))
        return reader(path.parent)

    return read


READERS: dict[str, tuple[str, Any, Callable[[Path], Any]]] = {
    "problems.json": (
        "problems.json",
        {"1": PROBLEM},
        _in_folder(read_scienceqa, pid_splits={"train": ["1"], "val": [], "test": []}),
    ),
    "pid_splits.json": (
        "pid_splits.json",
        {"train": ["1"], "validation": [], "minitest": []},
        _in_folder(read_scienceqa, problems={"1": PROBLEM}),
    ),
    "captions": ("captions.json", {"captions": {"1": ["a", "fern"]}}, read_captions),
    "aokvqa": ("aokvqa_v1p0_train.json", [OFFICIAL], _in_folder(read_aokvqa)),
    "custom": ("problems.jsonl", ROW, read_custom),
    "manifest": ("manifest.json", {"format": 2, "steps": {"rationale": ENTRY}}, _in_folder(read_manifest)),
    "index": ("index.json", INDEX, _in_folder(FeatureStore)),
    "predictions": ("predictions.jsonl", PREDICTION, read_predictions),
    "json": ("any.json", {"a": [1, 2.5, None]}, read_json),
    "jsonl": ("any.jsonl", {"a": [1, 2.5, None]}, read_jsonl),
}


@pytest.mark.parametrize("name", READERS)
def test_readers_of_json_raise_only_ares_errors(name: str, tmp_path: Path) -> None:
    file, valid, read = READERS[name]

    @fuzzed
    @given(near(valid))
    def check(content: bytes) -> None:
        (tmp_path / file).write_bytes(content)
        with suppress(AresError):
            read(tmp_path / file)

    check()


COLUMN = st.sampled_from(
    [
        pa.array(["a"]),
        pa.array([1], pa.int64()),
        pa.array([None], pa.string()),
        pa.array([[0.5]]),
        pa.array([["a"]]),
        pa.array([[None]], pa.list_(pa.float32())),
        pa.array([True]),
        pa.array([float("nan")]),
        pa.array([b"\xff"]),
    ]
)
NAMES = (
    "row_id",
    "scores",
    "status",
    "reason",
    "request_hash",
    "pid",
    "question",
    "choices",
    "split",
    "answer",
)


@few
@given(
    st.dictionaries(st.sampled_from(NAMES), COLUMN, min_size=1), st.integers(0, 10**6), st.binary(max_size=3)
)
def test_readers_of_tables_raise_only_ares_errors(
    tmp_path: Path, columns: dict, at: int, noise: bytes
) -> None:
    path = tmp_path / "part-0.parquet"
    pq.write_table(pa.table(columns), path)
    data = path.read_bytes()
    at %= len(data)
    path.write_bytes(data[:at] + noise + data[at + len(noise) :])
    for read in (read_feedback, read_custom, lambda file: read_rollouts(file.parent)):
        with suppress(AresError):
            read(path)


PIECES = st.sampled_from(
    [
        *('{"1.1": 0.5, "1.2": 1.0, "2.1": 0.1}', "{'1.1': 0.5}", "[[0.5, 1], [0.1]]", '"id"', '"score"', "0.5", "1e999"),
        *("{", "}", "[", "]", ":", ",", "\n", '"', "'", "```json\n", "<think>", "</think>", "final_rationale: {"),
        *("Ice is solid. So B.", "**", "winner: first", "Rationale 1:", "\ud83d", "\0", "NaN", "xxx", "[" * 3000, "9" * 5000),
    ]
)  # fmt: skip
replies = st.lists(PIECES | st.text(max_size=10), max_size=8).map("".join)


@fuzzed
@given(replies, st.integers(0, 4), st.lists(st.integers(0, 3), max_size=3))
def test_parsers_of_replies_raise_only_feedback_errors(reply: str, count: int, counts: list[int]) -> None:
    for parse in (
        lambda: parse_scores(reply, count),
        lambda: parse_correction(reply),
        lambda: parse_verdict(reply),
    ):
        try:
            found = parse()
        except FeedbackError:
            continue
        assert found or count == 0
    grouped = parse_grouped_scores(reply, counts)
    assert len(grouped) == len(counts)
    for scores, number in zip(grouped, counts, strict=True):
        if not isinstance(scores, FeedbackError):
            assert len(scores) == number
            assert all(0 <= score <= 1 for score in scores)


words = st.sampled_from(
    [
        *[
            "Ice",
            "is",
            "solid.",
            "(B)",
            "40",
            "mL.",
            "\n",
            "\\frac{1}{2}",
            "e.g.",
            "冰是固体。",
            "है।",
            "؟",
            "…",
            "...",
            '"',
            "”",
            "3.14",
            "U.S.",
            "•",
            "-",
            "1.",
            "Solution:",
            "!",
            "?",
        ],
        "\n",
    ]
)
prose = st.lists(words | st.text(max_size=6), max_size=14).map(" ".join)


@fuzzed
@given(prose)
def test_sentences_cover_all_text_in_order(text: str) -> None:
    spans = split_sentences(text)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    covered = "".join(text[span.start : span.end] for span in spans)
    assert "".join(covered.split()) == "".join(text.split())
    remove_repeated_sentences(text)
    extract_answer(text)


TOKENIZER = train_tokenizer(["Ice is solid. So the answer is (B).", "40 mL of water"], vocab_size=160)


@fuzzed
@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=40), st.sampled_from(["space", "escape"]))
def test_token_ends_increase_strictly_and_reach_the_last_token(ids: list[int], newline: str) -> None:
    text, spans, ends = sentence_spans(TOKENIZER, ids, newline=newline)
    assert len(spans) == len(ends)
    assert ends == sorted(set(ends))
    written = [index for index, token in enumerate(ids) if token > 1]
    assert (ends[-1] == written[-1]) if text.strip() else not ends


SETTING = st.sampled_from(
    [*["rl.k=2", "rl.lr=", "run=a", "stage=rl", "[1,2", "{a:1}", "~rl", "+x=1", "-m", "--cfg=job", "${x}", "'", '"', "\\", "a\x00b=1", "hydra.x=1", "data=custom"]]
)  # fmt: skip


@pytest.mark.slow
@few
@given(st.lists(SETTING | st.text(max_size=8).map(lambda text: f"rl.k={text}"), max_size=3))
def test_command_lines_give_sentences(arguments: list[str]) -> None:
    try:
        found = mistakes_in(arguments)
    except SystemExit:  # argparse's own, as of --cfg=x
        return
    assert all(isinstance(text, str) and text for text in found)


POLICY: dict[str, Any] = {
    "base": None,
    "fingerprint": None,
    "dtype": "float32",
    "quantization": "none",
    "max_pixels": None,
    "prompts": {"system": None, "rationale": "{question}", "answer": "{question} {rationale}"},
    "lora": {"r": 4, "alpha": 8, "targets": None, "vision": False},
}


def test_policy_settings_raise_only_ares_errors(tmp_path: Path) -> None:
    from ares.models.vlm.loading import VlmSettings

    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    assert VlmSettings.read(tmp_path).lora.r == 4

    @fuzzed
    @given(near(POLICY))
    def check(content: bytes) -> None:
        (tmp_path / "policy.json").write_bytes(content)
        with suppress(AresError):
            VlmSettings.read(tmp_path)

    check()
