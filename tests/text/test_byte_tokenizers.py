"""Sentence ends with tokenizers whose tokens are bytes: a character takes several tokens, and ids may not be UTF-8."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from ares.text.sentences import sentence_spans, sentence_token_ends
from tests.support.sentences import check_alignment
from tests.support.vlm_parts import tiny_tokenizer

WORDS = ["The magnet pulls iron.", "So it is (B).", "Why?", "Très près de l’été…", "磁石。", "Ünder!", "Où?",
         "🧲", "🧲.", "👩‍🔬", "🇫🇷", "e\u0301.", "\ufffd", "\n", "\n磁", "Fin", ""]  # fmt: skip
texts = st.builds(str.join, st.sampled_from(["", " ", "\n"]), st.lists(st.sampled_from(WORDS), max_size=12))


def byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of LLaVA-1.5's kind: ASCII as pieces, anything else and line breaks as their bytes."""
    pieces = ["<pad>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [*string.ascii_letters, *string.digits, *string.punctuation, "▁", "▁T", "▁Th", "on", "on."]
    merges = [("▁", "T"), ("▁T", "h"), ("o", "n"), ("on", ".")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="module", params=[tiny_tokenizer, byte_fallback_tokenizer], ids=["bytes", "fallback"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return request.param()


@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_token_ends_of_any_text(tokenizer, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    check_alignment(tokenizer, [*ids, tokenizer.eos_token_id], "space")


@settings(max_examples=200, deadline=None)
@given(text=texts, data=st.data())
def test_token_ends_of_partial_characters(tokenizer, text: str, data: st.DataObject) -> None:
    """Tokens are missing from a text, so that some of its characters are incomplete."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    kept = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    check_alignment(tokenizer, [token for token, keep in zip(ids, kept, strict=True) if keep], "space")


@settings(max_examples=120, deadline=None)
@given(data=st.data(), newline=st.sampled_from(["space", "escape"]))
def test_token_ends_of_random_ids(tokenizer, data: st.DataObject, newline: str) -> None:
    frequent = st.sampled_from(tokenizer('. "\\n\n It? é…。🧲', add_special_tokens=False).input_ids)
    ids = data.draw(st.lists(st.one_of(frequent, st.integers(0, len(tokenizer) - 1)), max_size=40))
    check_alignment(tokenizer, ids, newline)


def test_token_ends_of_multibyte_text(tokenizer) -> None:
    ids = tokenizer("L’aimant attire. Där är den – été… Où? 磁石。 Fin 🧲 là. End").input_ids
    assert len(sentence_token_ends(tokenizer, ids)) == 5


def test_sentence_ends_with_the_last_byte_of_its_last_character(tokenizer) -> None:
    ids = tokenizer("Il fait froid l’été\nÉtrange").input_ids
    first, last = sentence_token_ends(tokenizer, ids)
    assert tokenizer.decode(ids[: first + 1]).endswith("été")
    assert "été" not in tokenizer.decode(ids[:first])
    assert last == len(ids) - 1


def test_escaped_line_breaks(tokenizer) -> None:
    ids = tokenizer("It has: \\n- iron\\nneon glows \\n\\nEnd.").input_ids
    text, spans, _ = sentence_spans(tokenizer, ids, newline="escape")
    assert [text[span.start : span.end] for span in spans] == ["It has:", "- iron\nneon glows", "End."]
