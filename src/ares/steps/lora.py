"""lora: an adapter on the rationale model answers each question given the model's own rationale."""

from collections.abc import Mapping, Sequence
from typing import Any

from ares.datamodules.base import encode_examples
from ares.evaluation.answers import extract_answer, leaderboard, letter_to_index
from ares.modules.lora import add_adapter
from ares.modules.seq2seq import fit_seq2seq
from ares.ranks import is_first
from ares.schema import Config
from ares.step import Outputs, Run
from ares.steps.generation import greedy_rationales
from ares.steps.inputs import examples_of, features_of, policy_of, problems_of, trainer_arguments
from ares.store import atomic_folder, write_json
from ares.tables import read_rationales, write_predictions
from ares.types import Prediction, Problem


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
        asked = {pid: problems[pid] for pid in splits["test"]}
        files["leaderboard"] = run.folder / "leaderboard.json"
        write_json(files["leaderboard"], leaderboard(asked, {p.pid: p.answer for p in predictions["test"]}))
    return Outputs(files, figures)


def _fit(
    config: Config,
    run: Run,
    model: Any,
    tokenizer: Any,
    problems: Mapping[str, Problem],
    splits: Mapping[str, list[str]],
    own: Mapping[str, Mapping[str, str]],
) -> dict[str, float]:
    def labelled(split: str, count: int | None = None) -> dict[str, Any]:
        pids = [pid for pid in splits[split] if problems[pid].answer is not None][:count]
        return examples_of(problems, pids, "QCMG-A", config, own[split])

    block = config.lora
    lengths = {"max_input_tokens": config.text.max_input_tokens, "max_output_tokens": block.max_output_tokens}
    arguments = trainer_arguments(config, run)
    return fit_seq2seq(
        model,
        tokenizer,
        encode_examples(tokenizer, labelled("train"), **lengths),
        encode_examples(tokenizer, labelled("val", block.eval_questions), **lengths),
        block,
        score=answer_accuracy,
        metric="val/accuracy",
        features=features_of(run),
        devices=config.trainer.devices * config.trainer.num_nodes,
        eval_batch=config.generate.batch_size,
        seed=config.seed,
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
