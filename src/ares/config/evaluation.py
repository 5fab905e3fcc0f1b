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
    split: str = choice("train", "val", "test", default="test")
    questions: int | None = bounded(500, at_least=1)  # from the first, null: all; each costs two requests


@dataclass
class ReportConfig:
    """`questions`: the most that the report's browser shows; fewer where the page would become too large.

    `compare`: runs and sweeps that stage=report compares on one page.
    """

    questions: int = bounded(3000, at_least=0)
    compare: list[str] = field(default_factory=list)
