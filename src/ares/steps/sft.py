"""sft: fine-tunes the policy after RL on the rationales that the Teacher repaired."""

from ares.config.schema import Config
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.fitting import data_arguments
from ares.steps.common.inputs import load_problems, policy_of
from ares.steps.rationale import fine_tune
from ares.storage.tables import read_corrections
from ares.types import AresError

SPEC = StepSpec(
    name="sft",
    reads=("data", "features", "policy", "corrections"),
    writes=("policy",),
    settings=("seed", "text", "model._target_", "sft", "generate.batch_size", "trainer.precision"),
    runs_on="device",
    place="round",
    folder="sft",
)


def sft(config: Config, context: StepContext) -> StepResult:
    """Writes `policy/`, trained on the corrected rationales of the train split."""
    from ares.datamodules.problems import CorrectionData

    problems, splits = load_problems(config, context)
    corrected = {
        row.pid: row.corrected
        for row in read_corrections(context.inputs["corrections"])
        if row.status == "ok" and row.corrected
    }
    if not corrected:
        raise AresError(
            f"{context.inputs['corrections']} holds no corrected rationale; its column `reason` says why."
        )
    policy = policy_of(config, context, context.inputs["policy"], dropout=config.sft.dropout)
    data = CorrectionData(problems, splits, policy, corrected=corrected, **data_arguments(config, config.sft))
    return fine_tune(config, context, config.sft, data)
