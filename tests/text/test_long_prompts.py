"""Prompts that are too long lose the end of their context, never the options or the cue."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ares.data.scienceqa import read_scienceqa
from ares.models.t5.prompts import encode_prompts
from ares.text.prompts import build_example, fitted, may_exceed
from ares.text.tokenizers import train_tokenizer
from ares.types import AresError, Example
from tests.support.problems import make_problem

LIMIT = 512
END = "Options: (A) a fern (B) a rock "


def words(limit: int):
    return lambda example: len(example.prompt.split()) <= limit


def test_the_longest_context_that_fits_is_kept() -> None:
    example = build_example(make_problem(hint="one two three four five"), "QCM-E")
    for limit in range(15, 21):
        found = fitted(example, words(limit))
        assert found is not None
        assert len(found.prompt.split()) == min(limit, 19)
        assert found.prompt.endswith(END + "Solution:")
        assert found.target == example.target
    assert fitted(example, words(14)) is None


def test_hint_goes_before_caption_and_caption_before_rationale() -> None:
    problem = make_problem(hint="h1 h2 h3", caption="c1 c2 c3")
    example = build_example(problem, "QCMG-A", rationale="r1 r2 r3")
    expected = [
        "h1 h2 c1 c2 c3 | r1 r2 r3",
        "h1 c1 c2 c3 | r1 r2 r3",
        "c1 c2 c3 | r1 r2 r3",
        "c1 c2 | r1 r2 r3",
        "c1 | r1 r2 r3",
        "N/A | r1 r2",  # no context is written as one word
        "N/A | r1",
        "N/A |",
    ]
    for count, kept in enumerate(expected, start=1):
        found = fitted(example, words(len(example.prompt.split()) - count))
        assert found is not None
        context, _, given = found.prompt.partition("Context: ")[2].partition(" " + END)
        assert f"{context} | {given}".removesuffix("Answer:").strip() == kept.strip(), count
        assert found.prompt.endswith("Answer:")
        assert found.rationale == kept.split("|")[1].strip()


@pytest.mark.parametrize("hint", ["冰是固体水是液体" * 300, "x" * 3000, "a\n\n b\t" * 900, "é " * 2000])
@pytest.mark.parametrize("newline", ["space", "escape"])
def test_hints_of_any_script_are_shortened(hint: str, newline: str) -> None:
    example = build_example(make_problem(hint=hint), "QCM-E", newline=newline)
    found = fitted(example, lambda example: len(example.prompt) <= 400)
    assert found is not None
    assert 300 < len(found.prompt) <= 400
    assert found.prompt.endswith(
        "(A) a fern (B) a rock" + (" " if newline == "space" else "\n") + "Solution:"
    )


def test_own_target_survives(t5_tokenizer) -> None:
    example = replace(build_example(make_problem(hint="word " * 2000), "QCM-E"), target="Solution: repaired.")
    found = fitted(example, words(100))
    assert found is not None
    assert found.target == "Solution: repaired."


def read_back(tokenizer, example: Example, limit: int = LIMIT) -> tuple[str, int]:
    [ids], shortened = encode_prompts(tokenizer, [example], limit)
    assert len(ids) <= limit
    assert ids[-1] == tokenizer.eos_token_id
    return tokenizer.decode(ids, skip_special_tokens=True), shortened


@pytest.mark.parametrize("prompt_format", ["QCM-E", "QCMG-A"])
@pytest.mark.parametrize("newline", ["space", "escape"])
def test_hint_of_2000_words_keeps_options_and_cue(t5_tokenizer, prompt_format: str, newline: str) -> None:
    problem = make_problem(hint="word " * 2000, caption="a photo of a fern")
    example = build_example(problem, prompt_format, rationale="Ferns grow.", newline=newline)
    text, shortened = read_back(t5_tokenizer, example)
    assert shortened == 1
    assert text.count("word") > 400
    cue = "Ferns grow. Answer:" if prompt_format == "QCMG-A" else "Solution:"
    assert text.endswith(f"a photo of a fern Options: (A) a fern (B) a rock {cue}")


def test_prompts_that_fit_are_as_they_were(t5_tokenizer) -> None:
    examples = [build_example(make_problem(hint="word " * n), "QCM-E") for n in (0, 100, 450)]
    rows, shortened = encode_prompts(t5_tokenizer, examples, LIMIT)
    assert (rows, shortened) == (t5_tokenizer([e.prompt for e in examples])["input_ids"], 0)


def test_question_that_does_not_fit_is_refused_with_its_problem(t5_tokenizer) -> None:
    problem = make_problem("q7", question="Which " * 600, hint="some hint")
    with pytest.raises(
        AresError, match=r"of problem q7 have 6\d\d tokens, more than text\.max_input_tokens=512;"
    ):
        encode_prompts(t5_tokenizer, [build_example(problem, "QCM-E")], LIMIT)


def test_a_trained_tokenizer_shortens_too() -> None:
    problem = make_problem(hint="word " * 2000)
    tokenizer = train_tokenizer([build_example(make_problem(), "QCM-E").prompt], vocab_size=200)
    text, _ = read_back(tokenizer, build_example(problem, "QCM-E"))
    assert text.endswith(END + "Solution:")


@pytest.mark.parametrize(("outputs", "shortened"), [(None, 3), ("test_outputs_llava_13b.json", 19)])
def test_real_prompts_keep_their_options_and_cue(shared: Path, t5_tokenizer, outputs, shortened) -> None:
    """Those of the data with the gold rationale and with the long ones that a model wrote."""
    root = shared / "data" / "scienceqa"
    problems, _ = read_scienceqa(root)
    rationales = {pid: f"Solution: {problem.solution}" for pid, problem in problems.items()}
    if outputs:
        rationales = json.loads((root / outputs).read_text())["outputs"]
    examples = [build_example(problems[pid], "QCMG-A", rationale=text) for pid, text in rationales.items()]
    long = [example for example in examples if may_exceed(example, LIMIT)]
    rows, count = encode_prompts(t5_tokenizer, long, LIMIT)
    assert count == shortened

    def written(text: str) -> str:
        return "".join(t5_tokenizer.decode(t5_tokenizer(text)["input_ids"], skip_special_tokens=True).split())

    for example, ids in zip(long, rows, strict=True):
        text = "".join(t5_tokenizer.decode(ids, skip_special_tokens=True).split())
        assert text.endswith("Answer:")
        letters = zip("ABCDE", problems[example.pid].choices, strict=False)
        assert written("Options: " + " ".join(f"({letter}) {choice}" for letter, choice in letters)) in text
