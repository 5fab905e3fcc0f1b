"""Where sentences end, in characters and in tokens."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from ares.text.sentences import (
    _first,
    remove_repeated_sentences,
    repetition_rate,
    sentence_spans,
    sentence_token_ends,
    split_sentences,
)
from ares.types import AresError
from tests.support.sentences import check_alignment, check_spans


def sentences(text: str) -> list[str]:
    return [text[span.start : span.end] for span in split_sentences(text)]


# --------------------------------------------------------------------------------------------------
# Characters
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Gupta is here.|Mr. Gordon met Mrs. Russo and Ms. Ortiz.|Prof. Lee left.",
        "Dr. De Silva met Mr. A. Lee.|He left.",
        "Mt. Everest is high.|St. Louis is a city in Missouri.|It is large.",
        "Martin Luther King Jr. was a leader.|Martin Luther King Jr. Day is in January.",
        "Jr. and Sr. are suffixes.|They follow a name.",
        "A pet, e.g. a dog, is kept, i.e. fed.|See e.g. Smith.|E.g. Dogs bark.",
        "He lives in the U.S. with his family.|The U.S. Army is large.|The U.S.A. is a country.",
        "She moved to the U.S.|It is far.|Washington, D.C., is a capital.|She likes Washington, D.C.",
        "J. K. Rowling wrote it.|J.R.R. Tolkien and George W. Bush did not.|By J. Smith.",
        "We left at 3 p.m. and came at 5 a.m. on Monday.|See Fig. 2 and cf. Eq. 3.|It costs approx. 5 dollars.",
        "Apples, pears, etc. are fruit.|They grow.",
    ],
)
def test_abbreviations_and_initials_do_not_end_a_sentence(text: str) -> None:
    assert sentences(text.replace("|", " ")) == text.split("|")


@pytest.mark.parametrize(
    "text",
    [
        "It weighs 3.5 kg.|Pi is 3.14159.|The chance is .5.|It has 2.|It costs $1.99 here.",
        "Wait... there is more.|He paused … then left. . . slowly.|Well... Maybe so.",
        "It goes on and on....|There is more.",
        'The text says "Hello."|The speaker is polite.|He said “it is.”|(It was.)|Then he left.',
        '"Why?" she asked.|"No!" he said.|Is it?|Yes!|Really?!|It is.',
        "1. Look at it.|2. Think about it.|10. Go home.|(a) Rest.|It is 1776.|The end.",
        "The answer is A.|BECAUSE: Oranges have vitamin C.|Bananas do not.|The answer is (B).|So it is.",
        "nickel is a metal.|neon glows.|This is art.|Planets orbit the Sun.|Mars is one.",
        "See www.example.com for more.|It is a site.",
        "It is cold; We stay in.|A magnet (see the picture) attracts.",
        "A force (Fig. 1.) is small.|It acts.",
        "I am.|You are.|Yes.|No.|So.",
    ],
)
def test_token_ends_of_sampled_ids(text: str) -> None:
    assert sentences(text.replace("|", " ")) == text.split("|")


@pytest.mark.parametrize(
    "text",
    [
        # Units and symbols.
        "It takes 5 min.|Then we stop.|The mass is 3 kg.|Block B is lighter.|It moves at 5 m/s.|Car A is faster.",
        "The density is 2 g/cm³.|Iron sinks.|It is −10 °C.|Ice forms.|The resistance is 5 kΩ.|Current flows.",
        "It is 80%.|Water is the rest.|Ann is 5 ft. 3 in. tall.|He is 6 yrs. old.|In 1990 J. Smith won.|He left.",
        "The acid lowers the pH.|Litmus turns red.|The variable is x.|Solving gives 3.|The genotype is Ff.|Rex is black.",
        # Letters: labels and choices, but no initials.
        "We choose B.|Texas is south.|Compare A and B.|Sample B is hotter.|It flows from A to B.|Heat follows.",
        "It is warmer than beaker C.|Heat flows.|The allele is F.|Rex has it.|So do I.|Rex barks.",
        "He met J. K. Rowling and Susan B. Anthony.|The book by C. Darwin is old.|Brown v. Board mattered.",
        "The options are A. Ohio and B. Texas.|E. coli cells grow.",
        # Abbreviations that announce a number.
        "See Chap. IV for more.|See Vol. 2, No. 3 and pp. 4-5.|See Art. 5 and Par. 6.|He came on Jan. 5 to stay.|He left.",
        "The answer is no.|Iron sinks.|Is it no. 5?|See Eqs. 3 and 4.|It is so.",
        # Closing brackets and footnotes.
        'It sinks [iron is dense.]|Wood floats.|It sinks (is it?)|It sinks ("it is.")|Wood floats.',
        "Ice floats.[1][2]|Iron sinks.[1, 2]|Wood floats.¹|Ice floats [1].|Iron sinks (see A).|So it is.",
        "Fruit (apples, etc.) is sweet.|The army (U.S.) Army is large.",
        # Formulas.
        "It is $\\frac{1}{2}$.|Iron sinks.|So \\(x = 2\\).|Iron sinks.|It is \\[ x \\].|It is x^{2}.|We have V = B.|Mass is.",
    ],
)
def test_units_letters_brackets_and_formulas(text: str) -> None:
    assert sentences(text.replace("|", " ")) == text.split("|")


@pytest.mark.parametrize(
    "text",
    [
        "冰是固体！|水是液体？|是的。",
        "他说：“冰是固体。”|水是液体。",
        "「氷です。」と言った。|水は液体です。",
        "ہے یہ برف۔|پانی مائع ہے۔",
        "हाँ।|नहीं॥|ठीक है।",
        "هل الجليد صلب؟ |نعم هو صلب.",
        "الجليد صلب. |الماء سائل.",
        "얼음은 고체입니다. |물은 액체입니다.",
        "Лёд твёрдый. |Вода жидкая.",
    ],
)
def test_scripts_without_spaces_or_capitals(text: str) -> None:
    assert sentences(text.replace("|", "")) == [part.strip() for part in text.split("|")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        ("Solution:", ["Solution:"]),
        ("Solution: Iron is a metal. It is", ["Solution: Iron is a metal.", "It is"]),
        ("Solution:\nIron is hard.", ["Solution:\nIron is hard."]),
        ("One line\nAnother line", ["One line", "Another line"]),
        ("A long line that\ngoes on. Next", ["A long line that\ngoes on.", "Next"]),
        ("It ends.\nnever mind.\r\n\r\nEnd", ["It ends.", "never mind.", "End"]),
        ("Two things:\n- iron\n-\ntin\n1.\nCopper", ["Two things:", "- iron", "-\ntin", "1.\nCopper"]),
        ("It is solid. | No\nIt is wet. | Yes", ["It is solid. | No", "It is wet. | Yes"]),
        ("  Padded. Text.  ", ["Padded.", "Text."]),
        ("matter.The sun shines", ["matter.", "The sun shines"]),
        ("...", ["..."]),
        ("It costs 5. about the same.", ["It costs 5. about the same."]),
    ],
)
def test_sentences_at_line_ends_and_edges(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


PIECES = st.sampled_from(
    ["Dr.", "U.S.", "3.5", "...", "…", "?", "!", ".", '."', "”", "(", ")", " ", "\n", "  ", "The", "sun", "n",
     "A.", "1.", "Solution:", "|", "-", "é", "\u00a0", "\u2028", "。", "\x1c", "can't", "e.g."]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES).map(" ".join), st.lists(PIECES).map("".join)))
def test_spans_cover_any_text(text: str) -> None:
    check_spans(text, split_sentences(text))


# --------------------------------------------------------------------------------------------------
# Tokens
# --------------------------------------------------------------------------------------------------


SENTENCE_IDS = [5, 58, 55, 2, 29, 634, 94, 535, 3, 6, 10, 1, 0, 505, 1300, 32099, 31, 121, 411, 7]


@settings(max_examples=120, deadline=None)
@given(
    ids=st.lists(st.one_of(st.sampled_from(SENTENCE_IDS), st.integers(0, 32099)), max_size=40),
    newline=st.sampled_from(["space", "escape"]),
)
@example(ids=[], newline="escape")
@example(ids=[1], newline="space")
@example(ids=[2, 29, 2, 29, 1], newline="escape")
def test_token_ends_of_random_t5_ids(t5_tokenizer, ids: list[int], newline: str) -> None:
    check_alignment(t5_tokenizer, ids, newline)


def test_unknown_tokens_other_than_line_breaks_are_dropped(t5_tokenizer) -> None:
    ids = [2, *t5_tokenizer("Ice is cold.", add_special_tokens=False).input_ids, 2]
    text, _, ends = sentence_spans(t5_tokenizer, ids, newline="escape")
    assert text.strip() == "Ice is cold."
    assert ends == [len(ids) - 1]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(-3, 45), st.integers(0, 40))
def test_search_finds_the_first_index_from_any_guess(low: int, extra: int, guess: int, turn: int) -> None:
    high = low + extra
    found = _first(lambda index: index >= turn or index == high, guess, low, high)
    assert found == next(i for i in range(low, high + 1) if i >= turn or i == high)


def test_token_ends_of_long_responses(t5_tokenizer) -> None:
    text = (
        "Solution: " + "The magnet (A) attracts 3.5 kg of iron. Is it near? Dr. Wu's compass says so. " * 20
    )
    ids = t5_tokenizer(text, truncation=False).input_ids
    check_alignment(t5_tokenizer, ids, "space")
    _, spans, ends = sentence_spans(t5_tokenizer, ids)
    assert len(spans) == 60
    pieces = [t5_tokenizer.decode(ids[a + 1 : b + 1]) for a, b in zip([-1, *ends], ends, strict=False)]
    assert pieces[1:4] == [
        "Is it near?",
        "Dr. Wu's compass says so.",
        "The magnet (A) attracts 3.5 kg of iron.",
    ]


def test_last_sentence_ends_on_the_last_token(t5_tokenizer) -> None:
    complete = t5_tokenizer("Iron is a metal. It rusts.").input_ids
    assert complete[-1] == 1
    first, last = sentence_token_ends(t5_tokenizer, [*complete, 0, 0])
    assert t5_tokenizer.decode(complete[: first + 1]) == "Iron is a metal."
    assert last == len(complete) - 2
    cut = complete[:-2]
    assert sentence_token_ends(t5_tokenizer, cut) == [first, len(cut) - 1]
    unknown = [*complete[:-1], 2, 3]  # tokens of no text and of a space
    assert sentence_token_ends(t5_tokenizer, unknown) == [first, len(unknown) - 1]


def test_blank_responses_have_no_sentence(t5_tokenizer) -> None:
    for ids in ([], [1], [0, 0], [3, 3, 1], [2, 1]):
        text, spans, ends = sentence_spans(t5_tokenizer, ids)
        assert (text.strip(), spans, ends) == ("", [], [])


def test_escaped_line_breaks(t5_tokenizer) -> None:
    escaped = "It has: \\n- iron\\nneon glows \\n\\nEnd."
    ids = t5_tokenizer(escaped).input_ids
    text, spans, _ = sentence_spans(t5_tokenizer, ids, newline="escape")
    assert [text[span.start : span.end] for span in spans] == ["It has:", "- iron\nneon glows", "End."]
    text, spans, _ = sentence_spans(t5_tokenizer, ids)
    assert text == "It has: n- ironnneon glows nnEnd."
    assert len(spans) == 1


def test_sentences_ending_in_the_same_token_are_merged() -> None:
    words = {"<pad>": 0, "</s>": 1, "Go. Stop. Sit": 2, ". Up.": 3}
    tokenizer = Tokenizer(models.WordLevel(words))
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    text, spans, ends = sentence_spans(fast, [2, 3, 1])
    assert text == "Go. Stop. Sit. Up."
    assert sentences(text) == ["Go.", "Stop.", "Sit.", "Up."]
    assert [text[span.start : span.end] for span in spans] == ["Go. Stop.", "Sit. Up."]
    assert ends == [0, 1]


def test_ids_are_never_encoded_again(t5_tokenizer) -> None:
    """Other encodings than the tokenizer's own keep their own offsets."""
    own = t5_tokenizer("Iron rusts. It is old.", add_special_tokens=False).input_ids
    letters = [t5_tokenizer.convert_tokens_to_ids(piece) for piece in "▁Iron▁rusts.▁It"]
    assert letters != own[: len(letters)]
    assert sentence_token_ends(t5_tokenizer, letters) == [11, 14]


def test_unknown_newline_mode_is_refused(t5_tokenizer) -> None:
    with pytest.raises(AresError, match=r"text\.newline is 'tab'"):
        sentence_token_ends(t5_tokenizer, [5], newline="tab")


# --------------------------------------------------------------------------------------------------
# Repetition
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected", "rate"),
    [
        ("", "", 0.0),
        ("Solution: Iron is hard. It rusts.", "Solution: Iron is hard. It rusts.", 0.0),
        (
            "Solution: Iron is hard. It rusts. IRON  is\u00a0hard. It rusts.",
            "Solution: Iron is hard. It rusts.",
            0.5,
        ),
        ("It rusts.\n\nIt rusts.\n\nIron  is hard.\n", "It rusts.\n\nIron  is hard.\n", 1 / 3),
        ("A is iron. B is tin. A is iron. C is lead.", "A is iron. B is tin. C is lead.", 0.25),
        ("Hot and hot. Hot.", "Hot and hot. Hot.", 0.0),
        ("A:\n- 5 mL\nB:\n- 5 mL\nIt is so.", "A:\n- 5 mL\nB:\n- 5 mL\nIt is so.", 0.0),
        ("A:\n- 5 mL\n- 5 mL\n- 5 mL", "A:\n- 5 mL", 0.5),
        ("All so.\n- 5 mL\nAll so.\n- 5 mL", "All so.\n- 5 mL", 0.5),
    ],
)
def test_repeated_sentences_are_removed(text: str, expected: str, rate: float) -> None:
    assert remove_repeated_sentences(text) == expected
    assert repetition_rate(text) == pytest.approx(rate)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["Iron is hard.", "It rusts!", "Solution: iron is hard.", "Why?", "and"])).map(
        " ".join
    )
)
def test_no_sentence_repeats_after_removal(text: str) -> None:
    kept = remove_repeated_sentences(text)
    assert repetition_rate(kept) == 0.0
    assert remove_repeated_sentences(kept) == kept
    assert set(kept.split()) <= set(text.split())
    if repetition_rate(text) == 0.0:
        assert kept == text
