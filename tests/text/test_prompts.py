"""Prompts against those of the original code, and what they must not do."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ares.text.prompts import PROMPT_FORMATS, build_example
from ares.types import AresError, Example, Problem

MAGNETS = Problem(
    pid="7",
    question="Which magnet  is\nstronger?",
    choices=("the red one", "the blue one", "neither"),
    answer=1,
    hint="Two magnets\nlie on a table.",
    caption="a photo of two magnets",
    lecture="Magnets attract.\nSome repel.",
    solution="The blue one lifts more.\nSo it is stronger.",
    image=None,
    split="train",
    subject="natural science",
    topic="physics",
    category="Magnets",
    skill="Compare magnets",
    grade="grade5",
    task="closed choice",
)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict:
    return json.loads((shared / "golden" / "prompts.json").read_text())


def problem_of(pid: str, fields: dict) -> Problem:
    names = "question answer hint caption lecture solution split subject topic category skill grade task"
    image = Path(fields["image"]) if fields["image"] else None
    known = {name: fields[name] for name in names.split()}
    return Problem(pid=pid, choices=tuple(fields["choices"]), image=image, **known)


def test_prompts_equal_the_original_byte_for_byte(golden: dict) -> None:
    compared = refused = 0
    for row in golden["rows"]:
        if row["format"] not in PROMPT_FORMATS:
            continue
        problem = problem_of(row["pid"], golden["problems"][row["pid"]])
        options = {"use_caption": row["use_caption"], "newline": "escape", "rationale": row["curr_le_data"]}
        if row["format"] == "QCMG-A" and row["curr_le_data"] is None:
            # The original puts the gold rationale here.
            with pytest.raises(AresError, match=f"rationale for problem {row['pid']}"):
                build_example(problem, row["format"], **options)
            refused += 1
            continue
        expected = Example(row["prompt"], row["target"])
        assert build_example(problem, row["format"], **options) == expected, (row["pid"], row["format"])
        compared += 1
    assert (compared, refused) == (1108, 22)


def test_token_ids_equal_the_original(golden: dict, t5_tokenizer) -> None:
    rows = [row for row in golden["rows"] if row["format"] in ("QCM-E", "QCM-LE", "QCM-ALE")][::9]
    assert len(rows) > 50
    for row in rows:
        problem = problem_of(row["pid"], golden["problems"][row["pid"]])
        example = build_example(problem, row["format"], use_caption=row["use_caption"], newline="escape")
        for text, ids in ((example.prompt, row["input_ids"]), (example.target, row["labels"])):
            assert t5_tokenizer(" ".join(text.split()), truncation=True, max_length=512).input_ids == ids


def test_newline_space_collapses_white_space() -> None:
    example = build_example(MAGNETS, "QCM-E")
    assert example.prompt == (
        "Question: Which magnet is stronger? Context: Two magnets lie on a table. a photo of two magnets "
        "Options: (A) the red one (B) the blue one (C) neither Solution:"
    )
    assert example.target == "Solution: The blue one lifts more. So it is stronger."


@pytest.mark.parametrize(
    ("prompt_format", "cue", "target"),
    [
        ("QCM-LE", "Solution:", "Solution: Magnets attract. Some repel. The blue one lifts more. So it is stronger."),
        ("QCM-A", "Answer:", "The answer is (B)."),
        ("QCM-ALE", "Solution:", "The answer is (B). BECAUSE: Magnets attract. Some repel. The blue one lifts more. So it is stronger."),
        ("QCM-LEA", "Solution:", "Magnets attract. Some repel. The blue one lifts more. So it is stronger. The answer is (B)."),
    ],
)  # fmt: skip
def test_targets_of_the_formats(prompt_format: str, cue: str, target: str) -> None:
    example = build_example(MAGNETS, prompt_format)
    assert example.target == target
    assert example.prompt.endswith(f"(C) neither {cue}")


def test_only_qcmg_contains_the_generated_rationale() -> None:
    example = build_example(MAGNETS, "QCMG-A", rationale="Solution: Red is weak.")
    assert example.prompt.endswith("(C) neither Solution: Red is weak. Answer:")
    assert example.target == "The answer is (B)."
    assert MAGNETS.solution.split("\n")[0] not in example.prompt
    for prompt_format in PROMPT_FORMATS:
        if "G" not in prompt_format:
            ignored = build_example(MAGNETS, prompt_format, rationale="Red is weak.")
            assert ignored == build_example(MAGNETS, prompt_format)


def test_qcmg_accepts_an_empty_rationale() -> None:
    assert build_example(MAGNETS, "QCMG-A", rationale="").prompt.endswith("(C) neither Answer:")
    assert build_example(MAGNETS, "QCMG-A", rationale="", newline="escape").prompt.endswith(
        "neither\n\nAnswer:"
    )


def test_the_context_is_hint_and_caption() -> None:
    def context(**fields: str) -> str:
        prompt = build_example(replace(MAGNETS, **fields), "QCM-A", newline="escape").prompt
        return prompt.split("Context: ")[1].split("\nOptions:")[0]

    assert context(hint="", caption="") == "N/A"
    assert context(hint="") == "a photo of two magnets"
    assert context(caption="") == MAGNETS.hint
    assert MAGNETS.caption not in build_example(MAGNETS, "QCM-A", use_caption=False).prompt


def test_withheld_answer_gives_an_empty_target() -> None:
    withheld = replace(MAGNETS, answer=None)
    for prompt_format in ("QCM-A", "QCMG-A", "QCM-ALE", "QCM-LEA"):
        assert build_example(withheld, prompt_format, rationale="x").target == ""
    assert build_example(withheld, "QCM-E") == build_example(MAGNETS, "QCM-E")


def test_unknown_format_and_newline_are_refused() -> None:
    with pytest.raises(AresError, match="Unknown prompt format 'QCM-X': write one of QCM-E, QCM-LE"):
        build_example(MAGNETS, "QCM-X")
    with pytest.raises(AresError, match=r"text\.newline is 'tab'"):
        build_example(MAGNETS, "QCM-E", newline="tab")
