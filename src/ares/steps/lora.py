"""lora: an adapter on the rationale model answers each question given the model's own rationale."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ares.evaluation.answers import extract_answer, leaderboard, letter_to_index
from ares.modules.lora import add_adapter
from ares.ranks import is_first
from ares.schema import Config, LoraConfig
from ares.step import Outputs, Run
from ares.steps.fitting import fit_examples
from ares.steps.generation import greedy_rationales
from ares.steps.inputs import examples_of, features_of, policy_of, problems_of
from ares.store import atomic_folder, write_json
from ares.tables import read_rationales, write_predictions
from ares.types import Example, Prediction, Problem, Rationale


def lora(config: Config, run: Run) -> Outputs:
    """Writes `adapter/` and `predictions.jsonl`; no gold rationale is in any prompt.

    For a test split whose answers are withheld also `leaderboard.json`, in A-OKVQA's format.
    """
    problems, splits = problems_of(config, run)
    own = {
        split: {row.pid: row.text for row in read_rationales(run.inputs[f"rationales-{split}"])}
        for split in ("train", "val", "test")
    }
    policy, tokenizer = policy_of(config, run.inputs["policy"], dropout=0.0)
    model = _with_adapter(policy, config.lora, features=features_of(run) is not None)
    known = {split: [pid for pid in splits[split] if problems[pid].answer is not None] for split in splits}

    def examples(split: str, pids: Sequence[str]) -> dict[str, Example]:
        return examples_of(problems, pids, "QCMG-A", config, own[split])

    train = examples("train", known["train"])
    val = examples("val", known["val"][: config.lora.eval_questions])
    figures = fit_examples(
        config, run, config.lora, model, tokenizer, train, val, score=answer_accuracy, metric="val/accuracy"
    )
    withheld = bool(splits["test"]) and not known["test"]
    predictions = {}
    for split in sorted({config.evaluate.split, *(["test"] if withheld else [])}):
        outputs = _answers(config, run, model, tokenizer, examples(split, splits[split]), split)
        predictions[split] = [predict(problems[row.pid], own[split][row.pid], row.text) for row in outputs]
    if not is_first():
        return Outputs({})
    scored = predictions[config.evaluate.split]
    figures["accuracy"] = 100 * sum(row.correct for row in scored) / max(1, len(known[config.evaluate.split]))
    files = {"adapter": run.folder / "adapter", "predictions": run.folder / "predictions.jsonl"}
    with atomic_folder(files["adapter"]) as folder:
        model.save_pretrained(folder)
    write_predictions(files["predictions"], scored)
    if withheld:
        files["leaderboard"] = run.folder / "leaderboard.json"
        _write_leaderboard(files["leaderboard"], problems, predictions["test"])
    return Outputs(files, figures)


def _with_adapter(policy: Any, block: LoraConfig, *, features: bool) -> Any:
    return add_adapter(
        policy,
        r=block.r,
        alpha=block.alpha,
        dropout=block.dropout,
        targets=block.targets,
        features=features,
    )


def _answers(
    config: Config, run: Run, model: Any, tokenizer: Any, examples: Mapping[str, Example], split: str
) -> list[Rationale]:
    return greedy_rationales(
        model,
        tokenizer,
        examples,
        features_of(run),
        max_input_tokens=config.text.max_input_tokens,
        max_new_tokens=config.lora.max_output_tokens,
        batch_size=config.generate.batch_size,
        label=f"{run.key} {split}",
    )


def _write_leaderboard(
    path: Path, problems: Mapping[str, Problem], predictions: Sequence[Prediction]
) -> None:
    answers = {row.pid: row.answer for row in predictions}
    write_json(path, leaderboard({pid: problems[pid] for pid in answers}, answers))


def predict(problem: Problem, rationale: str, output: str) -> Prediction:
    """A prediction from the model's output; without exactly one answer in it, or beyond the choices, it is None."""
    letter = extract_answer(output)
    index = None if letter is None else letter_to_index(letter)
    answer = index if index is not None and index < len(problem.choices) else None
    return Prediction(problem.pid, rationale, output, answer, answer is not None and answer == problem.answer)


def answer_accuracy(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """The share of outputs with the reference's answer; an output without one is wrong."""
    right = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        answer = extract_answer(hypothesis)
        right += answer is not None and answer == extract_answer(reference)
    return right / max(1, len(references))
