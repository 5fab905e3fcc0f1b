"""sft: fine-tunes the policy that RL left on the rationales that the Teacher repaired."""

from collections.abc import Mapping

from ares.schema import Config
from ares.step import Outputs, Run
from ares.steps.inputs import examples_of, policy_of, problems_of
from ares.steps.rationale import fine_tune
from ares.tables import read_corrections
from ares.types import AresError, Example


def sft(config: Config, run: Run) -> Outputs:
    """Writes `policy/`, trained on the corrected rationales of the train split."""
    problems, splits = problems_of(config, run)
    corrected = {
        row.pid: row.corrected
        for row in read_corrections(run.inputs["corrections"])
        if row.status == "ok" and row.corrected
    }
    if not corrected:
        raise AresError(
            f"{run.inputs['corrections']} holds no corrected rationale; look at its column `reason`."
        )
    model, tokenizer = policy_of(config, run.inputs["policy"], dropout=config.sft.dropout)
    train = with_targets(examples_of(problems, corrected, "QCM-E", config), corrected)
    val = examples_of(problems, splits["val"][: config.sft.eval_questions], "QCM-E", config)
    return fine_tune(config, run, config.sft, model, tokenizer, train, val)


def with_targets(examples: Mapping[str, Example], rationales: Mapping[str, str]) -> dict[str, Example]:
    """The examples with other rationales as targets, prefixed as the gold ones are."""
    return {pid: Example(example.prompt, _prefixed(rationales[pid])) for pid, example in examples.items()}


def _prefixed(rationale: str) -> str:
    return rationale if rationale.startswith("Solution:") else f"Solution: {rationale}"
