"""The input text and the target text of one example, in the prompt formats of ScienceQA and MM-CoT.

The letters of a format are the parts of the prompt and, after the dash, of the target: Question, Context, Multiple
choices, Lecture, Explanation (the solution), Answer, Generated rationale. QCM-E trains a model to write rationales,
QCMG-A to answer with the help of one.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from string import ascii_uppercase
from typing import Any

from ares.types import AresError, Example, Problem

# What opens a rationale and, in a prompt, asks for one.
SOLUTION = "Solution:"
LETTERS = ascii_uppercase  # of choices, in their order
ANSWER = re.compile(rf"The answer is \(([{LETTERS}])\)")
PROMPT_FORMATS = ("QCM-E", "QCM-LE", "QCM-A", "QCMG-A", "QCM-ALE", "QCM-LEA")
NEWLINES = ("space", "escape")
_WORD = 30  # characters: what is longer has no spaces, as in Chinese, and may be cut anywhere


def build_example(
    problem: Problem,
    prompt_format: str,
    *,
    use_caption: bool = True,
    rationale: str | None = None,
    newline: str = "space",
) -> Example:
    """Returns the prompt of `problem` and its target.

    Args:
        problem: a problem with at most 26 choices; the prompt of one without choices has no options. Where the source
            withholds the answer the target of a format that answers is empty (see `right_answer`).
        prompt_format: one of `PROMPT_FORMATS`.
        use_caption: append the caption, where there is one, to the hint.
        rationale: required by QCMG-A, possibly empty; other formats ignore it. It is inserted verbatim,
            including the `Solution:` that generated rationales begin with.
        newline: "space" collapses every run of white space to one space. "escape" is the format of the original
            ARES: line breaks of lecture and solution are written as a backslash and an "n", others are kept,
            two spaces become one, and QCM-LE ends in a second period.

    Raises:
        AresError: an unknown `prompt_format` or `newline`; QCMG-A without a rationale.
    """
    if prompt_format not in PROMPT_FORMATS:
        raise AresError(f"Unknown prompt format {prompt_format!r}: write one of {', '.join(PROMPT_FORMATS)}.")
    if newline not in NEWLINES:
        raise AresError(f"text.newline is {newline!r}: write one of {', '.join(NEWLINES)}.")
    if prompt_format != "QCMG-A":
        rationale = None
    elif rationale is None:
        raise AresError(
            f"QCMG-A needs a rationale for problem {problem.pid}: generate rationales of its split first."
        )
    return _example(problem, prompt_format, use_caption, rationale, newline, None)


def _example(
    problem: Problem,
    prompt_format: str,
    use_caption: bool,
    rationale: str | None,
    newline: str,
    length: int | None,
) -> Example:
    """`build_example` with at most `length` characters (None: all) of rationale, caption and hint, in this order."""
    if problem.turns is not None:
        return _instruction(problem, problem.turns)
    caption = problem.caption if use_caption else ""
    given, caption, hint = _first([rationale or "", caption, problem.hint], length)
    question = _question(problem, f"{hint} {caption}".strip() or "N/A")
    cue = "Answer:" if prompt_format.endswith("-A") else SOLUTION
    prompt = question + (cue if rationale is None else f"{given}\n{cue}")
    return Example(
        _tidy(prompt, newline),
        _tidy(_target(problem, prompt_format, newline), newline),
        problem.pid,
        problem.images,
        question.rstrip(),
        rationale if rationale is None else given,
        partial(_example, problem, prompt_format, use_caption, rationale, newline),
    )


def _instruction(problem: Problem, turns: tuple[tuple[str, str], ...]) -> Example:
    """The prompt of an instruction as it is, after the turns before it; its response as the target."""
    said = "".join(f"User: {asked}\nAssistant: {reply}\n" for asked, reply in turns)
    prompt = f"{said}User: {problem.question}\nAssistant:" if said else problem.question
    return Example(
        prompt,
        problem.solution,
        problem.pid,
        problem.images,
        question=problem.question,
        verbatim=True,
        turns=turns,
    )


def _first(texts: Sequence[str], length: int | None) -> list[str]:
    """The texts up to `length` characters in all; a text that is cut ends with a word."""
    if length is None:
        return list(texts)
    kept = []
    for text in texts:
        part = text[: max(length, 0)]
        if len(part) < len(text):
            part = re.sub(rf"\s\S{{0,{_WORD}}}$", "", part) if not text[len(part)].isspace() else part
        kept.append(part)
        length -= len(text)
    return kept


def fitted(example: Example, fits: Callable[[Example], bool]) -> Example | None:
    """The longest form of an example that `fits`: without the end of its hint, then of its caption, then of its rationale.

    None where the question and its options do not fit even alone.
    """
    shorter = example.shorter
    if shorter is None or not fits(shorter(0)):
        return None
    lengths = range(1, len(example.question) + len(example.rationale or "") + 1)
    length = bisect_left(lengths, True, key=lambda length: not fits(shorter(length)))
    return replace(shorter(length), target=example.target)


def may_exceed(example: Example, limit: int) -> bool:
    """Whether a prompt may have more than `limit` tokens: with EOS and the first space, it has as many as bytes at most."""
    return len(example.prompt.encode()) + 2 > limit


def shortened_note(count: int) -> str:
    """A sentence about prompts that `fitted` shortened."""
    return (
        f"{count:,} prompts have more tokens than text.max_input_tokens; the ends of their contexts (hint, then caption) are "
        "left out."
    )


def build_examples(
    problems: Mapping[str, Problem],
    pids: Iterable[str],
    prompt_format: str,
    *,
    rationales: Mapping[str, str] | None = None,
    **text: Any,
) -> dict[str, Example]:
    """Returns `build_example` of each problem by pid, in the order of `pids`; `rationales` are looked up by pid."""
    return {
        pid: build_example(
            problems[pid],
            prompt_format,
            rationale=None if rationales is None else rationales[pid],
            **text,
        )
        for pid in pids
    }


def rationale_target(rationale: str, newline: str = "space") -> str:
    """A rationale as the target of fine-tuning, in the form of the gold ones: with its `Solution:`, line breaks as
    `newline` has them (see `build_example`)."""
    text = rationale if rationale.startswith(SOLUTION) else f"{SOLUTION} {rationale}"
    return _tidy(_escaped(text, newline), newline)


def strip_solution(sentences: Sequence[str]) -> list[str]:
    """The sentences without the `Solution:` that opens a rationale; their number stays the same.

    A first sentence that consists of it becomes empty and is still scored.
    """
    stripped = list(sentences)
    if stripped and stripped[0].startswith(SOLUTION):
        stripped[0] = stripped[0][len(SOLUTION) :].lstrip()
    return stripped


def answer_sentence(letter: str) -> str:
    """The sentence that gives a choice as the answer; `ANSWER` finds it."""
    return f"The answer is ({letter})."


def right_answer(problem: Problem) -> str | None:
    """The right answer as a model states it: (B), or a free answer as it is; None where the source withholds it."""
    if problem.answer is not None:
        return f"({LETTERS[problem.answer]})"
    return problem.direct_answers[0] if problem.direct_answers and not problem.choices else None


def _escaped(text: str, newline: str) -> str:
    return text.replace("\n", "\\n") if newline == "escape" else text


def _tidy(text: str, newline: str) -> str:
    return " ".join(text.split()) if newline == "space" else text.replace("  ", " ").strip()


def _question(problem: Problem, context: str) -> str:
    """Question, context and options, if there are any, on one line each."""
    options = " ".join(f"({LETTERS[i]}) {choice}" for i, choice in enumerate(problem.choices))
    return f"Question: {problem.question}\nContext: {context}\n" + (
        f"Options: {options}\n" if options else ""
    )


def _target(problem: Problem, prompt_format: str, newline: str) -> str:
    """What follows the prompt, white space not yet tidied."""
    lecture, solution = _escaped(problem.lecture, newline), _escaped(problem.solution, newline)
    output = prompt_format.split("-")[1]
    if output == "E":
        return f"{SOLUTION} {solution}"
    if output == "LE":
        return f"{SOLUTION} {lecture} {solution}" + ("." if newline == "escape" else "")
    right = right_answer(problem)
    if right is None:
        return ""
    answer = f"The answer is {right}."
    if output == "ALE":
        return f"{answer} BECAUSE: {lecture} {solution}"
    return f"{lecture} {solution} {answer}" if output == "LEA" else answer
