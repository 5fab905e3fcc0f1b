"""sft: fine-tunes the policy that RL left on the rationales that the Teacher repaired."""

from ares.datamodules.problems import CorrectionData
from ares.schema import Config
from ares.step import Outputs, Run
from ares.steps.fitting import data_arguments
from ares.steps.inputs import policy_of, problems_of
from ares.steps.rationale import fine_tune
from ares.tables import read_corrections
from ares.types import AresError


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
    data = CorrectionData(
        problems, splits, tokenizer, corrected=corrected, **data_arguments(config, run, config.sft)
    )
    return fine_tune(config, run, config.sft, model, data)
