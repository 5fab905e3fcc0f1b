"""Answers: reading them from a model's output, ScienceQA's accuracy table, A-OKVQA's measures and leaderboard file."""

from collections.abc import Callable, Mapping

from ares.evaluation.checkers import CHECKERS
from ares.text.prompts import ANSWER, LETTERS, right_answer
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


def answer_in(problem: Problem, output: str, checker: str = "mcq") -> tuple[int | str | None, bool]:
    """The answer that an output gives, and whether it is right: the index of a choice, a free answer, or None.

    With `mcq` an answer is what `extract_answer` reads, as in the paper; any other data set's checker
    (`ares.evaluation.checkers`) reads and judges by its own rule.
    """
    if checker == "mcq":
        index = chosen(problem, output)
        return index, index is not None and index == problem.answer
    parsed, correct, _ = CHECKERS[checker](problem, output)
    is_letter = parsed is not None and bool(problem.choices) and parsed in LETTERS
    return letter_to_index(parsed) if is_letter else parsed, correct


def predict(problem: Problem, rationale: str, output: str, checker: str = "mcq") -> Prediction:
    """The prediction in a model's output, which was conditioned on the rationale."""
    return Prediction(problem.pid, rationale, output, *answer_in(problem, output, checker))


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


def accuracy_table(
    problems: Mapping[str, Problem], predictions: Mapping[str, int | str | None]
) -> dict[str, float | None]:
    """Percent of right answers (0 to 100, not rounded) by category; None for a category without a question.

    `predictions` maps pids to the index of a choice, or None where no answer could be extracted, which is
    wrong. Questions counted are those of `predictions` whose answer is known. The categories are those of
    Lu et al. 2022 (ScienceQA), table 4: NAT SOC LAN TXT IMG NO G1-6 G7-12 AVG.

    Raises KeyError for a prediction of an unknown problem.
    """
    known = {pid: answer for pid, answer in predictions.items() if problems[pid].answer is not None}
    return percent_right(problems, {pid: answer == problems[pid].answer for pid, answer in known.items()})


def percent_right(problems: Mapping[str, Problem], right: Mapping[str, bool]) -> dict[str, float | None]:
    """`accuracy_table` of answers that have been judged already, by pid."""
    table: dict[str, float | None] = {}
    for name, belongs in CATEGORIES.items():
        own = [correct for pid, correct in right.items() if belongs(problems[pid])]
        table[name] = 100 * sum(own) / len(own) if own else None
    return table


def accuracy_counts(
    problems: Mapping[str, Problem], predictions: Mapping[str, int | str | None]
) -> dict[str, int]:
    """How many questions each percentage of `accuracy_table` is taken over: those whose answer is known."""
    known = [problems[pid] for pid in predictions if right_answer(problems[pid]) is not None]
    return {name: sum(map(belongs, known)) for name, belongs in CATEGORIES.items()}


def failed_extractions(predictions: Mapping[str, int | str | None]) -> int:
    """How many outputs gave no answer, which is wrong."""
    return sum(predicted is None for predicted in predictions.values())


def choice_text(problem: Problem, answer: int | str | None) -> str:
    """The text of the chosen option, or a free answer as it is; empty where there is none."""
    return problem.choices[answer] if isinstance(answer, int) else answer or ""


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
    problems: Mapping[str, Problem], predictions: Mapping[str, int | str | None]
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
