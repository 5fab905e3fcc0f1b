"""The default prompts; their version is part of every request's hash.

Sentences are numbered `<rationale>.<sentence>`, both counted from 1, so that a reply need not repeat their
text and one unreadable rationale does not affect the others (`parsing.parse_grouped_scores`). The schemas are
the same for all requests, so a service compiles them only once.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ares.teachers.parsing import FeedbackError, parse_grouped_scores
from ares.text.prompts import right_answer
from ares.types import Problem

NAME = "default"
VERSION = "default-1"
GROUPED = True  # several rationales may share a request
CHARACTERS_PER_TOKEN = 4  # of English text, approximately
_TOKENS_PER_SCORE = 16
_NO_RATIONALE = "(none: write a short one)"
# Matches replies that repeat the prompt instead of answering it.
ECHO = re.compile(
    rf"below is a question\b|a student's rationale|{re.escape(_NO_RATIONALE)}|reply with json only|bring in no outside"
    r"|\bquestion:.*\bchoices:.*\banswer:",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Prompt:
    """The text, the likely length of the answer in tokens, and its JSON schema (None: free text)."""

    text: str
    answer_tokens: int
    schema: Mapping[str, Any] | None = None


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_TEXT, _NUMBER = {"type": "string"}, {"type": "number"}
SCORES = _object(scores={"type": "array", "items": _object(id=_TEXT, score=_NUMBER)})
CORRECTION = _object(final_rationale=_TEXT)
VERDICT = _object(winner={"type": "string", "enum": ["first", "second", "tie"]})


def sentence_keys(counts: Sequence[int]) -> list[list[str]]:
    """The keys of the sentences of rationales with `counts` sentences: [["1.1", "1.2"], ["2.1"], ...]."""
    return [[f"{i}.{j}" for j in range(1, count + 1)] for i, count in enumerate(counts, start=1)]


def number_sentences(rationales: Sequence[Sequence[str]]) -> str:
    """All sentences of a question's rationales, one per line, each after its key."""
    keys = sentence_keys([len(sentences) for sentences in rationales])
    return "\n".join(
        f"{key} {' '.join(sentence.split())}"
        for own, sentences in zip(keys, rationales, strict=True)
        for key, sentence in zip(own, sentences, strict=True)
    )


def describe(problem: Problem) -> str:
    """The question with its hint, its choices, if it has any, and the right answer."""
    choices = " ".join(f"({chr(65 + index)}) {choice}" for index, choice in enumerate(problem.choices))
    lines = [f"Question: {problem.question}"]
    if problem.hint.strip():
        lines.append(f"Hint: {problem.hint}")
    if choices:
        lines.append(f"Choices: {choices}")
    if problem.answer is not None:
        lines.append(f"Answer: ({chr(65 + problem.answer)}) {problem.choices[problem.answer]}")
    elif right := right_answer(problem):
        lines.append(f"Answer: {right}")
    return "\n".join(lines)


def score(problem: Problem, rationales: Sequence[Sequence[str]], has_image: bool) -> Prompt:
    """Asks for a score of each sentence of a question's rationales, each rationale judged on its own."""
    image = " about the image" if has_image else ""
    text = (
        f"Score each numbered sentence of the rationales for this question{image} from 0.0 to 1.0 in steps of 0.1: "
        "0.0 wrong, or a repetition within its rationale; 0.5 neutral, such as an initial thought or a true statement "
        "that may lead to the answer; 1.0 correct and relevant. Judge each rationale (1, 2, ...) on its own.\n\n"
        f"{describe(problem)}\n\n{number_sentences(rationales)}\n\n"
        'Reply with JSON only, every sentence in order: {"scores": [{"id": "1.1", "score": 0.5}, ...]}'
    )
    return Prompt(text, _TOKENS_PER_SCORE * sum(map(len, rationales)), SCORES)


def correct(problem: Problem, rationale: str, has_image: bool) -> Prompt:
    """Asks for a repair that keeps the correct parts of a rationale."""
    image = " with its image" if has_image else ""
    text = (
        f"Below is a question{image}, its right answer, and a student's rationale. Write the final rationale:\n"
        "- keep every sentence that is correct, and every one that starts the thought, word for word;\n"
        "- correct wrong sentences by what the question, hint, choices and answer say instead of removing them;\n"
        "- complete what is cut off, mend the grammar, and drop repetitions;\n"
        "- end at the given answer, and bring in no outside knowledge.\n\n"
        f"{describe(problem)}\n\nRationale: {rationale or _NO_RATIONALE}\n\n"
        'Reply with JSON only: {"final_rationale": "..."}'
    )
    return Prompt(text, 64 + len(rationale) // CHARACTERS_PER_TOKEN, CORRECTION)


def judge(problem: Problem, first: str, second: str, has_image: bool) -> Prompt:
    """Asks which of two rationales explains the answer better."""
    image = " with its image" if has_image else ""
    text = (
        f"Below is a question{image}, its right answer, and two rationales. Which rationale is better: more correct, "
        "more relevant to the question, and leading more clearly to the answer? Length and style do not count.\n\n"
        f"{describe(problem)}\n\nFirst rationale: {first or '(empty)'}\n\nSecond rationale: {second or '(empty)'}\n\n"
        'Reply with JSON only: {"winner": "first"}, {"winner": "second"} or {"winner": "tie"}'
    )
    return Prompt(text, 12, VERDICT)


def objection(reason: str) -> str:
    """The answer to an unusable reply."""
    return (
        f"That reply cannot be used: {reason}. Answer again, completely and in exactly the form asked for, "
        "and write nothing else."
    )


def read_scores(text: str, rationales: Sequence[Sequence[str]]) -> list[list[float] | FeedbackError]:
    """The scores in a reply to `score`, one entry per rationale."""
    return parse_grouped_scores(text, [len(sentences) for sentences in rationales])
