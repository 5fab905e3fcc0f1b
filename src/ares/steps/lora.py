"""lora: an adapter on the rationale model answers each question given the model's own rationale."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ares.datamodules.problems import AnswerData
from ares.evaluation.answers import extract_answer, failed_extractions, leaderboard, predict
from ares.modules.lora import add_adapter
from ares.modules.seq2seq import fit_seq2seq
from ares.ranks import is_first
from ares.steps.generation import greedy_rationales
from ares.steps.inputs import (
    data_arguments,
    examples_of,
    features_of,
    policy_of,
    problems_of,
    trainer_arguments,
)
from ares.store import Outputs, Run, atomic_folder, read_rationales, write_json, write_predictions
from ares.types import Config, Prediction, Problem


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
    block = config.lora
    model = add_adapter(
        policy,
        r=block.r,
        alpha=block.alpha,
        dropout=block.dropout,
        targets=block.targets,
        features=features_of(run) is not None,
    )
    figures = _fit(config, run, model, tokenizer, problems, splits, own)
    withheld = bool(splits["test"]) and all(problems[pid].answer is None for pid in splits["test"])
    predictions = {
        split: _predictions(
            config, run, model, tokenizer, split, [problems[pid] for pid in splits[split]], own[split]
        )
        for split in dict.fromkeys((config.evaluate.split, *(["test"] if withheld else [])))
    }
    if not is_first():
        return Outputs({})
    with atomic_folder(run.folder / "adapter") as folder:
        model.save_pretrained(folder)
    files = {"adapter": run.folder / "adapter", "predictions": run.folder / "predictions.jsonl"}
    scored = predictions[config.evaluate.split]
    write_predictions(files["predictions"], scored)
    known = [p for p in scored if problems[p.pid].answer is not None]
    figures["accuracy"] = 100 * sum(p.correct for p in known) / max(1, len(known))
    if withheld:
        files["leaderboard"] = run.folder / "leaderboard.json"
        write_leaderboard(files["leaderboard"], problems, predictions["test"])
    return Outputs(files, figures)


def write_leaderboard(path: Path, problems: Mapping[str, Problem], predictions: Sequence[Prediction]) -> None:
    """Writes A-OKVQA's leaderboard file, and warns of the questions whose answer could not be read."""
    answers = {row.pid: row.answer for row in predictions}
    write_json(path, leaderboard({pid: problems[pid] for pid in answers}, answers))
    if failed := failed_extractions(answers):
        print(
            f"warning: of {len(answers)} test questions {failed} have no answer that can be read; {path} gives the first "
            "choice for them, for the leaderboard takes no file without, and an empty direct answer.",
            file=sys.stderr,
        )


def _fit(
    config: Config,
    run: Run,
    model: Any,
    tokenizer: Any,
    problems: Mapping[str, Problem],
    splits: Mapping[str, list[str]],
    own: Mapping[str, Mapping[str, str]],
) -> dict[str, float]:
    block = config.lora
    data = AnswerData(problems, splits, tokenizer, rationales=own, **data_arguments(config, run, block))
    arguments = trainer_arguments(config, run)
    return fit_seq2seq(
        model,
        tokenizer,
        data,
        block,
        score=answer_accuracy,
        metric="val/accuracy",
        devices=config.trainer.devices * config.trainer.num_nodes,
        checkpoints=run.checkpoints,
        callbacks=arguments.pop("callbacks"),
        trainer_arguments=arguments,
    )


def _predictions(
    config: Config,
    run: Run,
    model: Any,
    tokenizer: Any,
    split: str,
    problems: Sequence[Problem],
    own: Mapping[str, str],
) -> list[Prediction]:
    by_pid = {problem.pid: problem for problem in problems}
    outputs = greedy_rationales(
        model,
        tokenizer,
        examples_of(by_pid, by_pid, "QCMG-A", config, own),
        features_of(run),
        max_input_tokens=config.text.max_input_tokens,
        max_new_tokens=config.lora.max_output_tokens,
        batch_size=config.generate.batch_size,
        label=f"{run.key} {split}",
    )
    return [predict(by_pid[output.pid], own[output.pid], output.text) for output in outputs]


def answer_accuracy(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """The share of outputs with the reference's answer; an output without one is wrong."""
    right = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        answer = extract_answer(hypothesis)
        right += answer is not None and answer == extract_answer(reference)
    return right / max(1, len(references))
