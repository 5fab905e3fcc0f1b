"""lora: an adapter on the rationale model answers each question given the model's own rationale."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.evaluation.answers import answer_in, failed_extractions, leaderboard, predict
from ares.ranks import is_first
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.fitting import checked_accuracy, data_arguments, fit_data
from ares.steps.common.inputs import examples_of, load_problems, policy_of
from ares.steps.common.parts import by_parts
from ares.steps.common.prompts import warn_shortened
from ares.steps.common.rows import check_answers
from ares.storage.files import atomic_folder, write_json
from ares.storage.tables import read_rationales, write_predictions
from ares.text.prompts import right_answer
from ares.types import Example, Prediction, Problem, Rationale, Response

if TYPE_CHECKING:
    from ares.models.policy import Policy


SPEC = StepSpec(
    name="lora",
    reads=("data", "features", "policy", "rationales-train", "rationales-val", "rationales-test"),
    writes=("adapter", "predictions", "leaderboard"),
    settings=(
        "seed",
        "text",
        "model._target_",
        "data.checker",
        "lora",
        "generate.batch_size",
        "evaluate.split",
        "trainer.precision",
    ),
    runs_on="device",
    folder="lora",
    shared=True,
    check_data=check_answers,
)


def lora(config: Config, context: StepContext) -> StepResult:
    """Writes `adapter/` and `predictions.jsonl`, judged by the data's checker; no gold rationale is in any prompt.

    For test questions with choices and without answers it also writes `leaderboard.json`, in A-OKVQA's format.
    """
    from ares.datamodules.problems import AnswerData

    problems, splits = load_problems(config, context)
    own = {
        split: {row.pid: row.text for row in read_rationales(context.inputs[f"rationales-{split}"])}
        for split in ("train", "val", "test")
    }
    policy = policy_of(config, context, context.inputs["policy"])
    block, checker = config.lora, config.data.checker
    policy.adapt(r=block.r, alpha=block.alpha, dropout=block.dropout, targets=block.targets, seed=config.seed)
    data = AnswerData(problems, splits, policy, rationales=own, **data_arguments(config, block))
    score = checked_accuracy(data, lambda problem, text: answer_in(problem, text, checker)[1])
    metrics = fit_data(config, context, block, data, score=score, metric="val/accuracy")
    reported = policy.shortened  # of training
    withheld = _is_withheld([problems[pid] for pid in splits["test"]])
    predictions = {}
    for split in sorted({config.evaluate.split, *(["test"] if withheld else [])}):
        texts = own[split]
        examples = examples_of(problems, splits[split], "QCMG-A", config, texts)
        rows = _answers(config, context, policy, examples, split)
        predictions[split] = [predict(problems[r.pid], texts[r.pid], r.text, checker) for r in rows]
    warn_shortened(policy.shortened - reported)
    if not is_first():
        return StepResult({})
    scored = predictions[config.evaluate.split]
    known = [row for row in scored if right_answer(problems[row.pid]) is not None]
    metrics["accuracy"] = 100 * sum(row.correct for row in known) / max(1, len(known))
    files = {"adapter": context.folder / "adapter", "predictions": context.folder / "predictions.jsonl"}
    with atomic_folder(files["adapter"]) as folder:
        policy.save_adapter(folder)
    write_predictions(files["predictions"], scored)
    if withheld:
        files["leaderboard"] = context.folder / "leaderboard.json"
        write_leaderboard(files["leaderboard"], problems, predictions["test"])
    return StepResult(files, metrics)


def _is_withheld(asked: Sequence[Problem]) -> bool:
    """Whether questions are A-OKVQA's test questions: with choices, and none with an answer."""
    return bool(asked) and all(problem.choices and problem.answer is None for problem in asked)


def write_leaderboard(path: Path, problems: Mapping[str, Problem], predictions: Sequence[Prediction]) -> None:
    """Writes A-OKVQA's leaderboard file; warns of questions whose answer could not be read."""
    answers = {row.pid: row.answer for row in predictions}
    write_json(path, leaderboard({pid: problems[pid] for pid in answers}, answers))
    if failed := failed_extractions(answers):
        print(
            f"warning: {failed} of {len(answers)} test questions have no readable answer; {path} gives the first "
            "choice for them, because the leaderboard requires one, and an empty direct answer.",
            file=sys.stderr,
        )


def _answers(
    config: Config, context: StepContext, policy: "Policy", examples: Mapping[str, Example], split: str
) -> list[Rationale]:
    from ares.engines.hf import greedy_responses

    tokens, batch_size = config.lora.max_output_tokens, config.generate.batch_size

    def write(part: Mapping[str, Example], label: str) -> list[Response]:
        return greedy_responses(policy, part, max_new_tokens=tokens, batch_size=batch_size, label=label)

    return by_parts(context, examples, write, split=split, batch_size=batch_size)
