"""The prompts of the ARES paper's code, byte for byte except for the doubled brackets around its options.

One rationale per request; the sentences come back as the keys of hand-written JSON, and must be the same ones.
"""

import re
from collections.abc import Sequence

from ares.teachers.parsing import FeedbackError, parse_scores
from ares.teachers.prompts.default import CHARACTERS_PER_TOKEN, Prompt, judge, objection
from ares.text.prompts import right_answer
from ares.types import Problem

__all__ = ["ECHO", "GROUPED", "NAME", "VERSION", "correct", "judge", "objection", "read_scores", "score"]

NAME = "paper"
VERSION = "paper-1"
GROUPED = False
_TOKENS_PER_ENTRY = 10
# Matches replies that repeat the prompt instead of answering it.
ECHO = re.compile(
    r"follow below 7 rules|preserve any (correct )?original rationales|\bquestion:.*\boptions:.*\banswer:",
    re.IGNORECASE,
)

_SCORE = (
    "There exists a set comprising {parts} for a Question. The reasoning process used to deduce the answer is "
    'provided in JSON format. Fill in "xxx" with values ranging from 0.0 to 1.0, in increments of 0.1. The reasoning '
    "may include the starting point of thought, the process of elimination, or true statements, although these may not "
    "appear to be directly related to the answer at first glance. A value closer to 0.0 indicates a completely incorrect "
    "rationale, 0.5 indicates a neutral rationale such as the initial thought process or true statements that guide "
    "later guesses towards the answer, and a value closer to 1.0 denotes a correct or relevant rationale for the "
    'question. Please just fill the "xxx" parts and only return the JSON format. If a sentence is repetitive (appeared '
    "before), then give 0.0."
)
_CORRECT = """\
Your task involves reviewing a set that includes {parts} for a Question. Please follow below 7 rules.
1. Preserve any correct original rationales based on the given answer by incorporating them into the final rationale \
without making any alterations.
2. Preserve any original rationales that represent the starting point of thought.
3. Correct any grammatical errors or incomplete rationales based on the given information without your knowledge.
4. If there are incorrect rationales based on the given answer, please correct them without removing them based on the \
given information.
5. Please take into account the content of the options, hint, and answer when doing this task.
6. Fill the corrected rationales inside the {{}} in the final_rationale according to the given format below, without \
any additional explanation.
7. Return only the entire set of Rationales within curly braces ({{}}) below with the filled one in the step 6."""


def _describe(problem: Problem) -> str:
    chosen = None if problem.answer is None else problem.choices[problem.answer]
    answer = chosen or right_answer(problem) or ""
    return f"Question: {problem.question}\nOptions: {list(problem.choices)}\nHint: {problem.hint}\nAnswer: {answer}"


def _parts(has_image: bool, *last: str) -> str:
    return ", ".join([*(["Image"] if has_image else []), "Options", "Hint", *last[:-1], f"and {last[-1]}"])


def score(problem: Problem, rationales: Sequence[Sequence[str]], has_image: bool) -> Prompt:
    """Asks for a value in place of each `xxx`, for one rationale; raises ValueError for several."""
    [sentences] = rationales
    form = "{\n" + ",\n".join(f'"{sentence}": xxx' for sentence in sentences) + "\n}\n"
    text = f"{_SCORE.format(parts=_parts(has_image, 'Answer'))}\n\n{_describe(problem)}\n\n{form}"
    return Prompt(text, len(form) // CHARACTERS_PER_TOKEN + _TOKENS_PER_ENTRY * len(sentences))


def correct(problem: Problem, rationale: str, has_image: bool) -> Prompt:
    """Asks for the corrected rationale inside `final_rationale:{}`."""
    form = f"Rationales:\n{{\noriginal_rationale:{{\n{rationale}\n}}, \nfinal_rationale:{{}}\n}}"
    parts = ("an " if has_image else "") + _parts(has_image, "Answer", "Rationales")
    # The answer repeats the original rationale before the corrected one.
    return Prompt(
        f"{_CORRECT.format(parts=parts)}\n\n{_describe(problem)}\n\n{form}",
        64 + 2 * len(rationale) // CHARACTERS_PER_TOKEN,
    )


def read_scores(text: str, rationales: Sequence[Sequence[str]]) -> list[list[float] | FeedbackError]:
    """The scores in a reply to `score`; its keys must be the sentences, in order."""
    [sentences] = rationales
    try:
        return [parse_scores(text, len(sentences), sentences=sentences)]
    except FeedbackError as error:
        return [error]
