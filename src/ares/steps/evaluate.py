"""evaluate: accuracy by subject, context and grade, and how close the rationales are to the gold ones.

The answers are the run's own or, with `evaluate.predictions`, those that the original ARES wrote.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ares.config.schema import Config
from ares.evaluation.answers import (
    accuracy_counts,
    choice_text,
    failed_extractions,
    percent_right,
    vqa_accuracy,
)
from ares.evaluation.rationales import bleu, gold_rationale, rouge_l, similarity
from ares.original.predictions import published_files, read_published_answers
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.inputs import load_problems
from ares.steps.prepare import read_problems
from ares.storage.files import write_json
from ares.storage.tables import read_predictions, read_rationales
from ares.text.prompts import right_answer
from ares.types import AresError, Problem

SPEC = StepSpec(
    name="evaluate",
    reads=lambda config, place: (
        ("data",)
        if config.evaluate.predictions
        else ("data", "predictions", f"rationales-{config.evaluate.split}")
    ),
    writes=("scores",),
    shared=True,
    settings=("evaluate.split", "evaluate.similarity_model"),
    headline=("accuracy/AVG", "bleu4", "rouge_l", "failed_extractions"),
    files=lambda config: published_files(config.evaluate.predictions),
    check_data=lambda config, source: check_split(config, source["data"]),
)


def evaluate(config: Config, context: StepContext) -> StepResult:
    """Writes `scores.json`: `accuracy` in percent, `failed_extractions`, `rationales` in [0, 1], counts."""
    problems, splits = load_problems(config, context)
    split = config.evaluate.split
    asked = _answered(problems, splits[split])
    answers, right = _judged(context, split, [problems[pid] for pid in splits[split]], asked)
    file = context.inputs.get(f"rationales-{split}")
    closeness = _closeness(asked, file, config.evaluate.similarity_model) if file else {}
    accuracy = percent_right(asked, right)
    with_choices = {pid: problem for pid, problem in asked.items() if problem.choices}
    texts = {pid: choice_text(problem, answers[pid]) for pid, problem in with_choices.items()}
    direct = vqa_accuracy(with_choices, texts)
    failed = failed_extractions(answers)
    scores = {
        "split": split,
        "questions": len(asked),
        "accuracy": accuracy,
        "counts": accuracy_counts(asked, answers),
        "direct_answer": direct,
        "failed_extractions": failed,
        "majority": _majority(asked.values()),
        "rationales": closeness,
        "hash": context.hash,
    }
    path = context.folder / "scores.json"
    write_json(path, scores)
    metrics = {f"accuracy/{name}": value for name, value in accuracy.items() if value is not None}
    if direct is not None:
        metrics["direct_answer"] = direct
    return StepResult({"scores": path}, {**metrics, **closeness, "failed_extractions": failed})


def check_split(config: Config, data: Path) -> None:
    """Raises AresError if no question of `evaluate.split` has a known answer."""
    problems, splits = read_problems(config.data, data)
    split = config.evaluate.split
    if not _answered(problems, splits[split]):
        raise AresError(
            f"The {split} split of data={config.data.name} has no question whose answer is known; score another split: "
            "evaluate.split=val (lora writes leaderboard.json for a test split without answers)."
        )


def _answered(problems: Mapping[str, Problem], pids: list[str]) -> dict[str, Problem]:
    return {pid: problems[pid] for pid in pids if right_answer(problems[pid]) is not None}


def _judged(
    context: StepContext, split: str, questions: Sequence[Problem], asked: Iterable[str]
) -> tuple[dict[str, int | str | None], dict[str, bool]]:
    """The answers to the asked questions, and whether each is right; a question without a prediction is wrong."""
    found: dict[str, tuple[int | str | None, bool]]
    if "published" in context.inputs:
        predicted = read_published_answers(context.inputs["published"], split, questions)
        rights = {problem.pid: problem.answer for problem in questions}
        found = {pid: (index, index is not None and index == rights[pid]) for pid, index in predicted.items()}
    else:
        rows = read_predictions(context.inputs["predictions"])
        found = {row.pid: (row.answer, row.correct) for row in rows}
    judged = {pid: found.get(pid, (None, False)) for pid in asked}
    answers = {pid: answer for pid, (answer, _) in judged.items()}
    return answers, {pid: right for pid, (_, right) in judged.items()}


def _closeness(asked: Mapping[str, Problem], file: Path, model: str | None) -> dict[str, float]:
    """The similarity of a file's rationales to the gold ones; empty if there are no gold ones."""
    texts = {row.pid: row.text for row in read_rationales(file)}
    pids = [pid for pid, problem in asked.items() if problem.has_solution]
    if not pids:
        return {}
    references, hypotheses = [gold_rationale(asked[pid]) for pid in pids], [texts[pid] for pid in pids]
    closeness = {**bleu(references, hypotheses), "rouge_l": rouge_l(references, hypotheses)}
    return closeness | ({"similarity": similarity(references, hypotheses, model=model)} if model else {})


def _majority(problems: Iterable[Problem]) -> float | None:
    # The accuracy of always giving the most frequent right answer, in percent.
    counts = Counter(map(right_answer, problems))
    return 100 * max(counts.values()) / counts.total() if counts else None
