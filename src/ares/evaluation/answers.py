"""Answers: reading them from a model's output, ScienceQA's accuracy table, A-OKVQA's measures and leaderboard file."""

from collections.abc import Callable, Mapping

from ares.text.prompts import ANSWER, LETTERS
from ares.types import Prediction, Problem


def extract_answer(text: str) -> str | None:
    """The letter of the one `The answer is (X)` in the text, X in A-Z; None without it or with several."""
    found = ANSWER.findall(text)
    return found[0] if len(found) == 1 else None


def letter_to_index(letter: str | None) -> int | None:
    """A -> 0 ... Z -> 25; None (no answer) stays None. Raises ValueError for anything else."""
    if letter is None:
        return None
    if len(letter) != 1 or letter not in LETTERS:
        raise ValueError(f"{letter!r} is not a letter from A to Z")
    return LETTERS.index(letter)


def chosen(problem: Problem, output: str) -> int | None:
    """The index of the choice that a model's output gives as its answer; None without exactly one answer, or beyond the choices."""
    index = letter_to_index(extract_answer(output))
    return index if index is not None and index < len(problem.choices) else None


def predict(problem: Problem, rationale: str, output: str) -> Prediction:
    """The prediction in a model's output, which was conditioned on the rationale."""
    answer = chosen(problem, output)
    return Prediction(problem.pid, rationale, output, answer, answer is not None and answer == problem.answer)


def _grade_between(low: int, high: int) -> Callable[[Problem], bool]:
    grades = {f"grade{number}" for number in range(low, high + 1)}
    return lambda problem: problem.grade in grades


# The columns of ScienceQA's results: subject, context (text hint, image, neither), grade, all.
CATEGORIES: dict[str, Callable[[Problem], bool]] = {
    "NAT": lambda problem: problem.subject == "natural science",
    "SOC": lambda problem: problem.subject == "social science",
    "LAN": lambda problem: problem.subject == "language science",
    "TXT": lambda problem: bool(problem.hint),
    "IMG": lambda problem: problem.image is not None,
    "NO": lambda problem: not problem.hint and problem.image is None,
    "G1-6": _grade_between(1, 6),
    "G7-12": _grade_between(7, 12),
    "AVG": lambda problem: True,
}


def _judged(
    problems: Mapping[str, Problem], predictions: Mapping[str, int | None]
) -> list[tuple[Problem, bool]]:
    # A problem whose source withholds the answer cannot be judged.
    answered = [(problems[pid], predicted) for pid, predicted in predictions.items()]
    return [
        (problem, predicted == problem.answer)
        for problem, predicted in answered
        if problem.answer is not None
    ]


def accuracy_table(
    problems: Mapping[str, Problem], predictions: Mapping[str, int | None]
) -> dict[str, float | None]:
    """Percent of right answers (0 to 100, not rounded) by category; None for a category without a question.

    `predictions` maps pids to the index of a choice, or None where no answer could be extracted, which is
    wrong. Questions counted are those of `predictions` whose answer is known. The categories are those of
    Lu et al. 2022 (ScienceQA), table 4: NAT SOC LAN TXT IMG NO G1-6 G7-12 AVG.

    Raises KeyError for a prediction of an unknown problem.
    """
    judged = _judged(problems, predictions)
    table: dict[str, float | None] = {}
    for name, belongs in CATEGORIES.items():
        right = [correct for problem, correct in judged if belongs(problem)]
        table[name] = 100 * sum(right) / len(right) if right else None
    return table


def accuracy_counts(problems: Mapping[str, Problem], predictions: Mapping[str, int | None]) -> dict[str, int]:
    """How many questions each percentage of `accuracy_table` is taken over."""
    judged = _judged(problems, predictions)
    return {name: sum(belongs(problem) for problem, _ in judged) for name, belongs in CATEGORIES.items()}


def failed_extractions(predictions: Mapping[str, int | None]) -> int:
    """How many outputs gave no answer; `accuracy_table` counts them as wrong."""
    return sum(predicted is None for predicted in predictions.values())


def choice_text(problem: Problem, answer: int | None) -> str:
    """The text of the chosen option; empty where none was chosen."""
    return "" if answer is None else problem.choices[answer]


def vqa_accuracy(problems: Mapping[str, Problem], predictions: Mapping[str, str]) -> float | None:
    """Percent, over the problems with direct answers that are not `difficult`, of min(1, matches / 3).

    A match is an annotator's answer that equals the prediction, letter for letter; a problem without a
    prediction counts 0. None without such a problem. Schwenk et al. 2022 (A-OKVQA), as their evaluation counts.
    """
    asked = [p for p in problems.values() if p.direct_answers and not p.difficult]
    if not asked:
        return None
    matches = [p.direct_answers.count(predictions[p.pid]) if p.pid in predictions else 0 for p in asked]
    return 100 * sum(min(1.0, count / 3) for count in matches) / len(asked)


def leaderboard(
    problems: Mapping[str, Problem], predictions: Mapping[str, int | None]
) -> dict[str, dict[str, str]]:
    """A-OKVQA's `predictions_<split>.json`: question id to the chosen option's text, for both of its settings.

    Every problem is in it. The official evaluation rejects a file for one text that is no choice of its
    question: where no answer could be read, the multiple choice is the first one and the direct answer empty.
    """
    board = {}
    for pid, problem in problems.items():
        text = choice_text(problem, predictions.get(pid))
        board[pid] = {"multiple_choice": text or problem.choices[0], "direct_answer": text}
    return board
