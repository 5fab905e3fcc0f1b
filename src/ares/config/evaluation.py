"""The settings of what measures a run and shows it."""

from dataclasses import dataclass, field

from ares.config.fields import bounded, choice


@dataclass
class EvaluateConfig:
    split: str = choice("train", "val", "test", default="test")  # answered and scored
    similarity_model: str | None = None  # folder or hub id of a sentence encoder, null: no similarity
    predictions: str | None = (
        None  # folder of the original's predictions_ans_*.json, for stage=evaluate alone
    )


@dataclass
class JudgeConfig:
    against: str | None = None  # run or file of rationales to compare with, null: the run's own baseline
    split: str = choice("train", "val", "test", default="test")  # whose rationales are compared
    questions: int | None = bounded(500, at_least=1)  # from the first, null: all; each costs two requests


@dataclass
class ReportConfig:
    """The page of a run; it shows fewer questions where it would become too large."""

    questions: int = bounded(3000, at_least=0)  # in the report's browser at most
    compare: list[str] = field(default_factory=list)  # runs and sweeps that stage=report shows on one page
