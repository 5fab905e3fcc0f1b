"""evaluate: accuracy by subject, context and grade, and how close the rationales are to the gold ones."""

from ares.evaluation.answers import (
    accuracy_counts,
    accuracy_table,
    choice_text,
    failed_extractions,
    vqa_accuracy,
)
from ares.evaluation.rationales import bleu, rouge_l, similarity
from ares.schema import Config
from ares.step import Outputs, Run
from ares.steps.inputs import problems_of
from ares.store import write_json
from ares.tables import read_predictions, read_rationales
from ares.types import AresError


def evaluate(config: Config, run: Run) -> Outputs:
    """Writes `scores.json`: `accuracy` in percent, `failed_extractions`, `rationales` in [0, 1], counts."""
    problems, splits = problems_of(config, run)
    split = config.evaluate.split
    predictions = {p.pid: p for p in read_predictions(run.inputs["predictions"])}
    asked = {pid: problems[pid] for pid in splits[split] if problems[pid].answer is not None}
    if not asked:
        raise AresError(
            f"The {split} split of data={config.data['name']} has no question whose answer is known; score another: evaluate.split=val."
        )
    answers = {pid: predictions[pid].answer if pid in predictions else None for pid in asked}
    texts = {r.pid: r.text for r in read_rationales(run.inputs[f"rationales-{split}"])}
    pairs = [(f"Solution: {problems[pid].solution}", texts[pid]) for pid in asked if problems[pid].solution]
    references, hypotheses = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    figures = {**bleu(references, hypotheses), "rouge_l": rouge_l(references, hypotheses)} if pairs else {}
    if pairs and config.evaluate.similarity_model:
        figures["similarity"] = similarity(references, hypotheses, model=config.evaluate.similarity_model)
    accuracy = accuracy_table(asked, answers)
    direct = vqa_accuracy(asked, {pid: choice_text(asked[pid], answer) for pid, answer in answers.items()})
    failed = failed_extractions(answers)
    scores = {
        "split": split,
        "questions": len(asked),
        "accuracy": accuracy,
        "counts": accuracy_counts(asked, answers),
        "direct_answer": direct,
        "failed_extractions": failed,
        "majority": _majority(list(asked.values())),
        "rationales": figures,
        "hash": run.hash,
    }
    path = run.folder / "scores.json"
    write_json(path, scores)
    metrics = {f"accuracy/{name}": value for name, value in accuracy.items() if value is not None}
    if direct is not None:
        metrics["direct_answer"] = direct
    return Outputs({"scores": path}, {**metrics, **figures, "failed_extractions": failed})


def _majority(problems: list) -> float | None:  # type: ignore[type-arg]
    # What always giving the most frequent position would reach, in percent.
    positions = [problem.answer for problem in problems]
    return 100 * max(positions.count(p) for p in set(positions)) / len(positions) if positions else None
