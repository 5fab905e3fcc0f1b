"""Tokenizers trained on a data set's texts."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ares.text.sentences import sentence_token_ends
from ares.text.tokenizers import check_represented, load_tokenizer, train_tokenizer, unrepresented
from ares.types import AresError

TEXTS = [
    f"Question: Which magnet is stronger, {a} or {b}? Options: (A) the red one (B) it's 3.5 kg Solution: "
    f"The {a} magnet attracts more. So, magnet {b} is weaker."
    for a in ("north", "south", "upper")
    for b in ("left", "right", "lower")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizer")


@pytest.fixture(scope="module")
def trained(folder: Path) -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer(TEXTS, vocab_size=300)
    tokenizer.save_pretrained(folder)
    return tokenizer


def test_special_ids_are_those_of_t5(trained: PreTrainedTokenizerFast) -> None:
    assert (trained.pad_token_id, trained.eos_token_id, trained.unk_token_id) == (0, 1, 2)
    assert trained("The magnet").input_ids[-1] == 1
    batch = trained(["The magnet", "The"], padding=True)
    assert batch.input_ids[1][-1] == 0
    assert batch.attention_mask[1] == [1, 1, 0]
    assert trained("木").input_ids == [trained.convert_tokens_to_ids("▁"), 2, 1]


def test_frequent_words_are_one_token(trained: PreTrainedTokenizerFast) -> None:
    tokens = trained.tokenize("The magnet attracts more. (A) 3.5")
    assert tokens == ["▁The", "▁magnet", "▁attracts", "▁more", ".", "▁(A)", "▁", "3", ".", "5"]
    assert len(trained) <= 300


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="Themagnt 019().,:?!'\"-\n{}<>~\\|=%$#@_", max_size=40))
def test_decoding_inverts_encoding(trained: PreTrainedTokenizerFast, text: str) -> None:
    assert trained.decode(trained(text).input_ids, skip_special_tokens=True) == text


def test_sample_texts_survive_a_round_trip(trained: PreTrainedTokenizerFast) -> None:
    for text in TEXTS:
        ids = trained(text).input_ids
        assert 2 not in ids
        assert trained.decode(ids, skip_special_tokens=True) == text


def test_tokenizer_loads_from_a_model_folder(trained: PreTrainedTokenizerFast, folder: Path) -> None:
    from transformers import T5Config

    T5Config(vocab_size=300, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2).save_pretrained(folder)
    for reopened in (AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)):
        assert reopened(TEXTS).input_ids == trained(TEXTS).input_ids
        assert reopened.get_vocab() == trained.get_vocab()
        assert (reopened.pad_token_id, reopened.eos_token_id, reopened.unk_token_id) == (0, 1, 2)
        assert reopened.decode(reopened(" a  b\n").input_ids, skip_special_tokens=True) == " a  b\n"


def test_sentences_end_on_their_period(trained: PreTrainedTokenizerFast) -> None:
    ids = trained("Solution: The magnet is 3.5 kg. So, it's strong! Yes").input_ids
    ends = sentence_token_ends(trained, ids)
    assert [trained.decode(ids[end]) for end in ends[:2]] == [".", "!"]
    assert ends[2] == len(ids) - 2


def test_same_texts_give_identical_files(
    trained: PreTrainedTokenizerFast, folder: Path, tmp_path: Path
) -> None:
    train_tokenizer(iter(TEXTS), vocab_size=300).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_bad_vocabularies_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AresError, match=r"tokenizer\.vocab_size is 20.*write at least 99"):
        train_tokenizer(TEXTS, vocab_size=20)
    assert not (tmp_path / "small").exists()
    with pytest.raises(
        AresError, match=r"No tokenizer can be loaded from .*nowhere; correct the path \(model\.init"
    ):
        load_tokenizer(tmp_path / "nowhere")


def test_share_of_text_that_cannot_be_represented(t5_tokenizer) -> None:
    assert unrepresented(t5_tokenizer, ["Ice is solid.", "Das war müde."]) == (0, 0.0)
    affected, share = unrepresented(t5_tokenizer, ["Ice is solid.", "冰 是固体。"])
    assert (affected, share) == (1, pytest.approx(5 / 16))
    assert check_represented(t5_tokenizer, ["Ice is solid."], "target texts") is None
    note = check_represented(t5_tokenizer, ["Ice is solid.", "So 冰."], "target texts")
    assert note is not None
    assert note.startswith(
        "1 of 2 target texts have characters that the tokenizer cannot represent, 6.7% of all"
    )
    with pytest.raises(AresError, match=r"1 of 2 target texts .* choose a model whose tokenizer knows"):
        check_represented(t5_tokenizer, ["Ice.", "冰是固体。水是液体。"], "target texts")


def test_bytes_represent_everything() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert unrepresented(PreTrainedTokenizerFast(tokenizer_object=tokenizer), ["冰是固体。"]) == (0, 0.0)


def test_folder_without_a_vocabulary_is_refused(trained: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(AresError, match="has no tokenizer"):
        load_tokenizer(tmp_path)
    trained.save_pretrained(tmp_path)
    load_tokenizer(tmp_path)
    for text in ("{}", "[]", "null", '{"version'):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(AresError, match="No tokenizer can be loaded"):
            load_tokenizer(tmp_path)
