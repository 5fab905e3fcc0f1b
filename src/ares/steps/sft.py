"""sft: fine-tunes the policy after RL on the rationales that the Teacher repaired, or as a control on the gold ones."""

from pathlib import Path

from ares.config.schema import Config
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.fitting import data_arguments
from ares.steps.common.inputs import load_problems, policy_of
from ares.steps.rationale import fine_tune
from ares.storage.tables import read_corrections
from ares.types import AresError

SPEC = StepSpec(
    name="sft",
    reads=lambda config, place: (
        *("data", "features", "policy"),
        *(() if config.sft.source == "gold" else ("corrections",)),
    ),
    writes=("policy",),
    settings=("seed", "text", "model._target_", "sft", "generate.batch_size", "trainer.precision"),
    runs_on="device",
    place="round",
    folder="sft",
)


def sft(config: Config, context: StepContext) -> StepResult:
    """Writes `policy/`, trained on the corrected or the gold rationales of the train split."""
    from ares.datamodules.problems import CorrectionData, RationaleData

    problems, splits = load_problems(config, context)
    policy = policy_of(config, context, context.inputs["policy"], dropout=config.sft.dropout)
    settings = data_arguments(config, config.sft)
    data: RationaleData
    if config.sft.source == "gold":
        data = RationaleData(problems, splits, policy, **settings)
    else:
        corrected = _corrected(context.inputs["corrections"])
        data = CorrectionData(problems, splits, policy, corrected=corrected, **settings)
    return fine_tune(config, context, config.sft, data)


def _corrected(path: Path) -> dict[str, str]:
    """The corrected rationales in a file, by pid."""
    rows = [row for row in read_corrections(path) if row.status == "ok"]
    if corrected := {row.pid: row.corrected for row in rows if row.corrected}:
        return corrected
    raise AresError(f"{path} holds no corrected rationale; its column `reason` says why.")
