"""appraise: a reward model scores the sentences of candidates, besides the Teacher or instead of it."""

from dataclasses import replace
from pathlib import Path

from ares.config.options import TeacherConfig
from ares.config.schema import Config
from ares.models.reward_settings import RewardSettings
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.rate import rated
from ares.storage.solutions import read_solutions
from ares.types import AresError

_GOLD = ("rationale", "lecture")  # facts that give the solution away

SPEC = StepSpec(
    name="appraise",
    reads=("data", "features", "candidates"),
    writes=("appraisals",),
    wanted=lambda config, place: "reward" in config.select.by,
    headline=("approval", "sentences"),
    files=lambda config: reward_model_files(config),
    check=lambda config: check(config),
)


def appraise(config: Config, context: StepContext) -> StepResult:
    """Writes `appraisals.parquet`, as `rate` does its ratings."""
    rows = read_solutions(context.inputs["candidates"])
    return rated(with_reward_model(config), context, rows, "appraisals")


def check(config: Config) -> tuple[str, ...]:
    """Raises AresError where there is no reward model; else `gold_warnings`."""
    if with_reward_model(config).teacher.name != "learned":
        raise AresError(
            "select.by=reward needs a reward model: give select.reward=<run or folder>, and train one with stage=reward."
        )
    return gold_warnings(config)


def gold_warnings(config: Config) -> tuple[str, ...]:
    """A warning of a reward model that reads what nobody has at test time."""
    for folder, _ in reward_model_files(config).values():
        if known := [name for name in RewardSettings.read(folder).facts if name in _GOLD]:
            return (
                f"the reward model in {folder} reads the {' and '.join(known)} of each question, which nobody has at test "
                "time; train one with reward.facts=[hint,caption,image].",
            )
    return ()


def with_reward_model(config: Config) -> Config:
    """The configuration with the reward model of `select.reward` as its Teacher; as it is where none is named."""
    if config.select.reward is None:
        return config
    arguments = {
        "path": config.select.reward,
        "runs": config.paths.runs,
        "accelerator": config.trainer.accelerator,
    }
    target = "ares.teachers.offline.learned.LearnedTeacher"
    return replace(config, teacher=TeacherConfig("learned", target, arguments))


def reward_model_files(config: Config) -> dict[str, tuple[Path, str]]:
    """The reward model in use with its hash, as `StepSpec.files` has it; none where the Teacher scores."""
    teacher = with_reward_model(config).teacher
    if teacher.name != "learned":
        return {}
    from ares.teachers.offline.learned import reward_folder

    folder = reward_folder(teacher.arguments.get("path"), config.paths.runs)
    return {"reward_model": (folder, RewardSettings.read(folder).hash)}
